#include "services/join.h"

#include <fmt/format.h>

#include <boost/asio/post.hpp>
#include <map>
#include <utility>

#include "identity/join.h"
#include "services/exchange.h"
#include "services/peers.h"

namespace ravine::services {
namespace {

using session::AppError;
using session::SessionId;

Bytes exporter_of(const session::Session& session) {
  const auto material = session.export_keying_material(identity::kJoinExporter);
  return {material.begin(), material.end()};
}

// Sends the request that `make` makes and calls back with the answer.
void ask(ServiceContext& context, session::Session& session, session::StreamId stream,
         const MakeRequest& make, std::function<void(Result<Exchanged>)> done) {
  auto exchanged = std::make_shared<Exchanged>();
  exchanged->exporter = exporter_of(session);
  auto request = make(exchanged->exporter);
  if (!request) {
    session.reset(stream, AppError::none);
    session.stop(stream, AppError::none);
    return done(request.error());
  }
  exchanged->request = *request;
  auto shared_done = std::make_shared<std::function<void(Result<Exchanged>)>>(std::move(done));
  ExchangeStream::Callbacks callbacks;
  callbacks.on_message = [exchanged, shared_done](session::Session&, ByteView message) {
    exchanged->response = to_bytes(message);
    if (const auto call = std::exchange(*shared_done, nullptr)) call(std::move(*exchanged));
  };
  callbacks.on_end = [shared_done](const Error& why) {
    if (const auto call = std::exchange(*shared_done, nullptr)) call(why);
  };
  auto exchange = std::make_shared<ExchangeStream>(context, identity::kMaxJoinResponse, std::move(callbacks));
  exchange->begin(session, stream, kJoinTimeout);
  exchange->send(session, std::move(*request));
}

}  // namespace

struct JoinService::Impl : std::enable_shared_from_this<Impl> {
  Impl(StreamRouter& stream_router, Issuer& stream_issuer)
      : context(stream_router.context()), issuer(stream_issuer), log(context.log.named("join")) {}

  ServiceContext context;
  Issuer& issuer;
  Log log;
  Counters counters;
  Instant window_start;
  std::size_t in_window = 0;

  using MakeAnswer = std::function<Result<Bytes>(session::Session& session, ByteView request)>;

  // At most kJoinsPerMinute in each minute.
  bool may_start() {
    const Instant now = context.driver.now();
    if (in_window == 0 || now - window_start > 60s) {
      window_start = now;
      in_window = 0;
    }
    return ++in_window <= kJoinsPerMinute;
  }

  void answer(session::Session& session, session::StreamId stream, MakeAnswer make,
              std::function<void(const Error& why)> on_end) {
    auto holder = std::make_shared<std::weak_ptr<ExchangeStream>>();
    ExchangeStream::Callbacks callbacks;
    callbacks.on_message = [holder, make = std::move(make), weak = weak_from_this()](session::Session& live,
                                                                                     ByteView message) {
      const auto exchange = holder->lock();
      const auto self = weak.lock();
      if (!exchange || !self) return;
      auto response = make(live, message);
      if (!response) {
        self->log.info("an exchange was refused: {}", response.error().message);
        return exchange->abort(to_code(response.error().kind), response.error());
      }
      exchange->send(live, std::move(*response));
    };
    callbacks.on_end = [on_end = std::move(on_end)](const Error& why) {
      if (on_end) on_end(why);
    };
    auto exchange =
        std::make_shared<ExchangeStream>(context, identity::kMaxJoinRequest, std::move(callbacks));
    *holder = exchange;
    exchange->begin(session, stream, kJoinTimeout);
  }

  void answer_renewal(const std::shared_ptr<IncomingStream>& stream) {
    session::Session* session = stream->session();
    if (session == nullptr) return;
    if (!session->info().has_certificate || session->info().chain.empty()) {
      return stream->refuse(AppError::refused, "only members renew");
    }
    session = stream->accept();
    if (session == nullptr) return;
    answer(*session, stream->stream_id(),
           [this](session::Session& live, ByteView request) {
             auto response = issuer.answer_renewal(live.info().network, live.info().chain.front(), request,
                                                   exporter_of(live));
             ++(response ? counters.renewals : counters.renewals_refused);
             return response;
           },
           {});
  }

  void answer_join(session::Session& session, session::StreamId stream) {
    answer(
        session, stream,
        [this](session::Session& live, ByteView request) {
          auto response = issuer.answer_join(live.info().network, request, exporter_of(live),
                                             live.current_path().route.remote);
          ++(response ? counters.joins : counters.joins_refused);
          return response;
        },
        [weak = weak_from_this(), id = session.id()](const Error& why) {
          const AppError code = why.kind == ErrorKind::closed ? AppError::none : to_code(why.kind);
          if (const auto self = weak.lock()) self->close_session(id, code);
        });
  }

  void close_session(SessionId id, AppError code) {
    const Instant now = context.driver.enter();
    session::Session* session = context.driver.endpoint().find(id);
    if (session == nullptr) return;
    session->close(now, code, std::string(to_text(code)));
    context.driver.touch();
  }
};

JoinService::JoinService(StreamRouter& router, Issuer& issuer)
    : impl_(std::make_shared<Impl>(router, issuer)) {
  impl_->context.driver.add_observer(this);
  router.add_service(StreamRequest::RENEW,
                     [weak = std::weak_ptr(impl_)](std::shared_ptr<IncomingStream> stream) {
                       if (const auto impl = weak.lock()) impl->answer_renewal(stream);
                     });
}

JoinService::~JoinService() {
  impl_->context.driver.remove_observer(this);
}

const JoinService::Counters& JoinService::counters() const {
  return impl_->counters;
}

void JoinService::on_established(session::Session& session) {
  if (session.info().alpn != session::kJoinAlpn || session.info().role != session::Role::acceptor) return;
  // A guest's session lives as long as its one exchange may take, whatever it does.
  auto timer = std::make_shared<boost::asio::steady_timer>(impl_->context.loop);
  timer->expires_after(std::chrono::duration_cast<boost::asio::steady_timer::duration>(2 * kJoinTimeout));
  timer->async_wait([timer, weak = std::weak_ptr(impl_), id = session.id()](boost::system::error_code error) {
    const auto impl = weak.lock();
    if (!error && impl) impl->close_session(id, AppError::timed_out);
  });
}

bool JoinService::on_stream_opened(session::Session& session, session::StreamId stream) {
  constexpr session::StreamId kUnidirectionalBit = 2;
  if (session.info().alpn != session::kJoinAlpn) return false;
  if ((stream & kUnidirectionalBit) != 0 || session.info().role != session::Role::acceptor) return false;
  if (!impl_->may_start()) {
    ++impl_->counters.limited;
    impl_->close_session(session.id(), AppError::limit);
    return true;
  }
  impl_->answer_join(session, stream);
  return true;
}

// --- joiner

namespace {

class JoinRun final : public runtime::SessionObserver, public std::enable_shared_from_this<JoinRun> {
 public:
  JoinRun(ServiceContext context, JoinDial dial, ExchangeDone done)
      : context_(std::move(context)), dial_(std::move(dial)), done_(std::move(done)), timer_(context_.loop) {}

  void start() {
    self_ = shared_from_this();
    context_.driver.add_observer(this);
    timer_.expires_after(std::chrono::duration_cast<boost::asio::steady_timer::duration>(kJoinTimeout));
    timer_.async_wait([weak = weak_from_this()](boost::system::error_code error) {
      const auto self = weak.lock();
      if (!error && self)
        self->finish(Error{ErrorKind::timed_out, "the issuer did not answer in time" + self->tried()});
    });
    lookups_ = 1;  // until all were started
    for (const HostPort& address : dial_.addresses) {
      if (const auto ip = IpAddress::parse(address.host)) {
        dial({*ip, address.port});
      } else if (context_.resolve) {
        ++lookups_;
        context_.resolve(address.host, [weak = weak_from_this(), port = address.port](Addresses found) {
          const auto self = weak.lock();
          if (!self || !self->done_) return;
          --self->lookups_;
          if (!found) self->failures_ += "; " + found.error().message;
          if (found) {
            for (const IpAddress& found_ip : *found) self->dial({found_ip, port});
          }
          self->fail_if_exhausted();
        });
      }
    }
    --lookups_;
    fail_if_exhausted();
  }

  void on_established(session::Session& session) override {
    if (!done_ || started_ || !dials_.contains(session.id())) return;
    const auto stream = session.open_stream(session::StreamKind::bidirectional);
    if (!stream) return finish(stream.error());
    started_ = true;
    ask(context_, session, *stream, dial_.make_request, [weak = weak_from_this()](Result<Exchanged> result) {
      if (const auto self = weak.lock()) self->finish(std::move(result));
    });
  }

  void on_closed(SessionId id, const session::SessionInfo&, const session::CloseReason& reason) override {
    const auto found = dials_.find(id);
    if (found == dials_.end() || !done_) return;
    constexpr std::uint64_t kCryptoError = 0x100;  // RFC 9000 §20.1
    const bool tls = (reason.cause == session::CloseCause::remote_transport ||
                      reason.cause == session::CloseCause::local_transport) &&
                     (reason.code & ~std::uint64_t{0xff}) == kCryptoError;
    if (tls || reason.cause == session::CloseCause::verify_refused) kind_ = ErrorKind::unauthenticated;
    if (reason.cause == session::CloseCause::remote_application) {
      kind_ = to_kind(static_cast<AppError>(reason.code));
    }
    failures_ += fmt::format("; {}: {}", found->second.to_text(), reason.text);
    dials_.erase(found);
    fail_if_exhausted();
  }

 private:
  std::string tried() const { return failures_; }

  void dial(const SocketAddress& address) {
    if (dials_.size() >= kMaxDialAddresses) return;
    session::DialOptions options;
    options.network = dial_.network;
    options.route.remote = address;
    options.route.interface_index = address.ip.scope();
    options.alpn = session::kJoinAlpn;
    options.server_name = dial_.server_name;
    options.policy = dial_.policy;
    options.with_certificate = false;
    const Instant now = context_.driver.enter();
    const auto id = context_.driver.endpoint().dial(now, options);
    if (!id) {
      failures_ += fmt::format("; {}: {}", address.to_text(), id.error().message);
      return;
    }
    dials_[*id] = address;
    context_.driver.touch();
  }

  void fail_if_exhausted() {
    if (!done_ || lookups_ > 0 || !dials_.empty()) return;
    finish(Error{kind_, "no address of the issuer led to it" + tried()});
  }

  void finish(Result<Exchanged> result) {
    if (!done_) return;
    const auto keep = std::exchange(self_, nullptr);
    const auto done = std::exchange(done_, nullptr);
    timer_.cancel();
    context_.driver.remove_observer(this);
    const Instant now = context_.driver.enter();
    for (const auto& [id, address] : dials_) {
      if (session::Session* session = context_.driver.endpoint().find(id)) {
        session->close(now, AppError::none, "the exchange is over");
      }
    }
    context_.driver.touch();
    done(std::move(result));
  }

  ServiceContext context_;
  JoinDial dial_;
  ExchangeDone done_;
  boost::asio::steady_timer timer_;
  std::map<SessionId, SocketAddress> dials_;
  std::size_t lookups_ = 0;
  std::string failures_;
  ErrorKind kind_ = ErrorKind::unreachable;
  bool started_ = false;
  std::shared_ptr<JoinRun> self_;
};

}  // namespace

void join_network(const ServiceContext& context, JoinDial dial, ExchangeDone done) {
  std::make_shared<JoinRun>(context, std::move(dial), std::move(done))->start();
}

void renew_certificate(StreamRouter& router, SessionId issuer, MakeRequest make_request, ExchangeDone done) {
  StreamRequest request;
  request.set_service(StreamRequest::RENEW);
  auto opening = std::make_shared<Pending>();
  *opening = open_service(router, issuer, std::move(request), kJoinTimeout,
                          [&router, opening, make = std::move(make_request),
                           done = std::move(done)](Result<OpenedStream> opened) {
                            const Pending spent = std::exchange(*opening, nullptr);
                            if (!opened) return done(opened.error());
                            ServiceContext& context = router.context();
                            session::Session* session = context.driver.endpoint().find(opened->session);
                            if (session == nullptr)
                              return done(Error{ErrorKind::unreachable, "the session ended"});
                            ask(context, *session, opened->stream, make, done);
                          });
}

}  // namespace ravine::services
