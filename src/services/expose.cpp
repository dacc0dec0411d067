#include "services/expose.h"

#include <fmt/format.h>
#include <sys/socket.h>

#include <map>
#include <utility>

#include "identity/allow_list.h"
#include "services/flow_stream.h"
#include "services/target.h"

namespace ravine::services {
namespace {

using session::AppError;

constexpr Duration kTargetTimeout = 10s;             // to connect to a local target
constexpr std::size_t kMaxConnectionsPerPeer = 512;  // through all exposures, per session
constexpr std::size_t kMaxExposures = 4096;
constexpr std::size_t kMaxDatagram = 65535;

struct Entry {
  Exposure exposure;
  HostPort target;
  identity::AllowList allow;
  bool removed = false;
  std::uint64_t next_key = 0;
  std::map<std::uint64_t, std::function<void()>> open;  // how to end each open connection
};
using EntryHandle = std::shared_ptr<Entry>;
// One of a peer's connections, from its admission to its end.
using Seat = std::shared_ptr<void>;

// A local UDP socket for one flow of one peer, connected to the target.
class ExposedFlow : public std::enable_shared_from_this<ExposedFlow> {
 public:
  explicit ExposedFlow(Socket socket) : socket_(std::move(socket)) {}

  void start(std::shared_ptr<FlowStream> stream) {
    stream_ = std::move(stream);
    wait();
  }
  void send(ByteView payload) {
    ::send(socket_.native_handle(), payload.data(), payload.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
  }
  void close(AppError code) {
    boost::system::error_code ignored;
    socket_.close(ignored);
    if (const auto stream = std::exchange(stream_, nullptr)) stream->close(code);
  }

 private:
  void wait() {
    socket_.async_wait(Socket::wait_read, [self = shared_from_this()](boost::system::error_code error) {
      if (error || !self->stream_) return;
      self->receive();
    });
  }
  void receive() {
    constexpr int kBudget = 64;  // datagrams per wake
    buffer_.resize(kMaxDatagram);
    for (int i = 0; i < kBudget && stream_; ++i) {
      const ssize_t got = ::recv(socket_.native_handle(), buffer_.data(), buffer_.size(), MSG_DONTWAIT);
      if (got >= 0) {
        stream_->send(ByteView(buffer_).first(static_cast<std::size_t>(got)));
      } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
        break;
      }
      // ECONNREFUSED: the port is closed now; UDP programs expect silence.
    }
    if (stream_) wait();
  }

  Socket socket_;
  std::shared_ptr<FlowStream> stream_;
  Bytes buffer_;
};

}  // namespace

struct ExposeService::Impl : std::enable_shared_from_this<Impl> {
  Impl(StreamRouter& stream_router, FlowTable& flow_table)
      : context(stream_router.context()),
        router(stream_router),
        flows(flow_table),
        log(context.log.named("expose")) {}

  ServiceContext context;
  StreamRouter& router;
  FlowTable& flows;
  Log log;
  std::vector<EntryHandle> entries;
  std::map<session::SessionId, std::size_t> connections;
  Counters counters;
  PumpCounters pump_counters;

  EntryHandle find(Protocol protocol, std::uint32_t port, session::NetworkId network) const {
    for (const EntryHandle& entry : entries) {
      const Exposure& exposure = entry->exposure;
      if (exposure.protocol != protocol || exposure.port != port) continue;
      if (!exposure.network || *exposure.network == network) return entry;
    }
    return nullptr;
  }

  void handle(const std::shared_ptr<IncomingStream>& stream) {
    session::Session* session = stream->session();
    if (session == nullptr) return;
    const session::SessionInfo& info = session->info();
    const StreamRequest& request = stream->request();
    const Protocol protocol = request.service() == StreamRequest::UDP ? Protocol::udp : Protocol::tcp;
    const char* word = protocol == Protocol::udp ? "udp" : "tcp";
    const EntryHandle entry = find(protocol, request.port(), info.network);
    if (!entry) {
      ++counters.unknown;
      log.info("refused a connection to {} port {}: it is not exposed", word, request.port());
      log.debug("the refused peer is {} ({})", info.peer.name, info.peer.id.to_text());
      return stream->refuse(AppError::not_found,
                            fmt::format("{} port {} is not exposed", word, request.port()));
    }
    if (!info.has_certificate || !entry->allow.allows(info.peer)) {
      ++counters.denied;
      log.info("refused a connection to {} port {}: no allow rule matches the peer", word, request.port());
      log.debug("the refused peer is {} ({})", info.peer.name, info.peer.id.to_text());
      return stream->refuse(AppError::refused,
                            fmt::format("{} port {} is not open to this peer", word, request.port()));
    }
    if (protocol == Protocol::udp && request.flow() != static_cast<std::uint64_t>(stream->stream_id())) {
      return stream->refuse(AppError::protocol, "the flow number is not the stream's");
    }
    Seat seat = take_seat(info.id);
    if (!seat) {
      ++counters.over_limit;
      return stream->refuse(AppError::limit, "too many connections from this peer");
    }
    resolve(entry, stream, std::move(seat));
  }

  // Null when the peer has kMaxConnectionsPerPeer, those that are still being connected among them.
  Seat take_seat(session::SessionId session) {
    std::size_t& taken = connections[session];
    if (taken >= kMaxConnectionsPerPeer) return nullptr;
    ++taken;
    return Seat(this, [weak = weak_from_this(), session](void*) {
      const auto self = weak.lock();
      if (!self) return;
      const auto found = self->connections.find(session);
      if (found != self->connections.end() && --found->second == 0) self->connections.erase(found);
    });
  }

  // Looks the target up once; every address is checked before it is used.
  void resolve(const EntryHandle& entry, const std::shared_ptr<IncomingStream>& stream, Seat seat) {
    if (const auto ip = IpAddress::parse(entry->target.host)) {
      return reach(entry, stream, {{*ip, entry->target.port}}, std::move(seat));
    }
    const auto found = [weak = weak_from_this(), entry, stream, seat](Addresses addresses) {
      const auto self = weak.lock();
      if (!self) return;
      std::vector<SocketAddress> remotes;
      if (addresses.ok()) {
        for (const IpAddress& ip : *addresses) {
          if (check_local_target(ip)) remotes.push_back({ip, entry->target.port});
        }
      }
      if (remotes.empty()) {
        ++self->counters.failed;
        self->log.warning("the target of port {} has no usable address", entry->exposure.port);
        return stream->refuse(AppError::unreachable, "the target has no usable address");
      }
      self->reach(entry, stream, std::move(remotes), seat);
    };
    if (!context.resolve) return found(Error{ErrorKind::unsupported, "this node looks up no names"});
    context.resolve(entry->target.host, found);
  }

  void reach(const EntryHandle& entry, const std::shared_ptr<IncomingStream>& stream,
             std::vector<SocketAddress> remotes, Seat seat) {
    if (entry->removed) return stream->refuse(AppError::not_found, "the port is no longer exposed");
    if (entry->exposure.protocol == Protocol::udp)
      return open_udp(entry, stream, remotes.front(), std::move(seat));
    auto holder = std::make_shared<std::shared_ptr<PendingConnect>>();
    stream->on_gone([holder] { holder->reset(); });
    *holder = connect_tcp(context.loop, std::move(remotes), kTargetTimeout,
                          [weak = weak_from_this(), entry, stream, holder, seat](Result<Socket> socket) {
                            if (const auto self = weak.lock())
                              self->join(entry, stream, std::move(socket), seat);
                            const auto spent = std::exchange(*holder, nullptr);
                          });
  }

  void join(const EntryHandle& entry, const std::shared_ptr<IncomingStream>& stream, Result<Socket> socket,
            Seat seat) {
    if (!socket) {
      ++counters.failed;
      log.info("port {}: {}", entry->exposure.port, socket.error().message);
      const AppError code =
          socket.error().kind == ErrorKind::timed_out ? AppError::timed_out : AppError::unreachable;
      return stream->refuse(code, "the target did not take the connection");
    }
    if (entry->removed) return stream->refuse(AppError::not_found, "the port is no longer exposed");
    session::Session* session = stream->accept();
    if (session == nullptr) return;
    ++counters.accepted;
    const std::uint64_t key = hold(entry);
    PumpOptions options;
    options.counters = &pump_counters;
    options.on_end = [entry, key, seat = std::move(seat)](std::uint64_t, std::uint64_t) {
      release(*entry, key);
    };
    const auto pump =
        start_pump(context, *session, stream->stream_id(), std::move(*socket), std::move(options));
    const auto held = entry->open.find(key);
    if (held == entry->open.end()) return;  // it ended at once
    held->second = [pump] {
      if (const auto live = pump.lock()) live->abort(AppError::refused);
    };
  }

  void open_udp(const EntryHandle& entry, const std::shared_ptr<IncomingStream>& stream,
                const SocketAddress& remote, Seat seat) {
    auto socket = connect_udp(context.loop, remote);
    if (!socket) {
      ++counters.failed;
      log.info("port {}: {}", entry->exposure.port, socket.error().message);
      return stream->refuse(AppError::unreachable, "the target cannot be reached");
    }
    const std::uint64_t key = hold(entry);
    auto flow = std::make_shared<ExposedFlow>(std::move(*socket));
    FlowCallbacks callbacks;
    callbacks.on_receive = [flow](ByteView payload) { flow->send(payload); };
    callbacks.on_end = [flow, entry, key, seat = std::move(seat)](const Error&) {
      flow->close(AppError::none);
      release(*entry, key);
    };
    auto end = std::make_shared<FlowStream>(router.context(), flows, stream->session_id(),
                                            stream->stream_id(), std::move(callbacks));
    if (!end->begin()) {
      ++counters.over_limit;
      release(*entry, key);
      return stream->refuse(AppError::limit, "too many flows");
    }
    ++counters.accepted;
    entry->open[key] = [flow, entry_weak = std::weak_ptr(entry), key] {
      flow->close(AppError::refused);
      if (const auto live = entry_weak.lock()) release(*live, key);
    };
    if (session::Session* session = stream->accept()) hand_over(*session, stream->stream_id(), end.get());
    flow->start(end);
  }

  static std::uint64_t hold(const EntryHandle& entry) {
    const std::uint64_t key = entry->next_key++;
    entry->open[key] = [] {};
    return key;
  }

  static void release(Entry& entry, std::uint64_t key) { entry.open.erase(key); }

  static void end_all(Entry& entry) {
    entry.removed = true;
    std::vector<std::function<void()>> calls;
    for (const auto& [key, call] : entry.open) calls.push_back(call);
    for (const auto& call : calls) call();
  }
};

ExposeService::ExposeService(StreamRouter& router, FlowTable& flows)
    : impl_(std::make_shared<Impl>(router, flows)) {
  const auto handler = [weak = std::weak_ptr(impl_)](std::shared_ptr<IncomingStream> stream) {
    if (const auto impl = weak.lock()) impl->handle(stream);
  };
  router.add_service(StreamRequest::TCP, handler);
  router.add_service(StreamRequest::UDP, handler);
}

ExposeService::~ExposeService() {
  clear();
}

Result<> ExposeService::add(const Exposure& exposure) {
  if (exposure.port == 0) return Error{ErrorKind::invalid_argument, "an exposed port is 1 to 65535"};
  auto target = parse_local_target(exposure.to);
  if (!target) return target.error();
  auto allow = identity::AllowList::parse(exposure.allow);
  if (!allow) return allow.error();
  for (const EntryHandle& entry : impl_->entries) {
    const Exposure& other = entry->exposure;
    const bool overlaps = !other.network || !exposure.network || *other.network == *exposure.network;
    if (other.protocol == exposure.protocol && other.port == exposure.port && overlaps) {
      return Error{ErrorKind::already_exists,
                   fmt::format("port {} is exposed already: unexpose it first", exposure.port)};
    }
  }
  if (impl_->entries.size() >= kMaxExposures) return Error{ErrorKind::limit_reached, "too many exposures"};
  auto entry = std::make_shared<Entry>();
  entry->exposure = exposure;
  entry->target = std::move(*target);
  entry->allow = std::move(*allow);
  impl_->entries.push_back(std::move(entry));
  return {};
}

bool ExposeService::remove(Protocol protocol, std::uint16_t port) {
  std::vector<EntryHandle> removed;
  std::erase_if(impl_->entries, [&](const EntryHandle& entry) {
    const bool hit = entry->exposure.protocol == protocol && entry->exposure.port == port;
    if (hit) removed.push_back(entry);
    return hit;
  });
  for (const EntryHandle& entry : removed) Impl::end_all(*entry);
  return !removed.empty();
}

void ExposeService::clear() {
  for (const EntryHandle& entry : std::exchange(impl_->entries, {})) Impl::end_all(*entry);
}

std::vector<Exposure> ExposeService::list() const {
  std::vector<Exposure> out;
  for (const EntryHandle& entry : impl_->entries) out.push_back(entry->exposure);
  return out;
}

const ExposeService::Counters& ExposeService::counters() const {
  return impl_->counters;
}
PumpCounters& ExposeService::pump_counters() {
  return impl_->pump_counters;
}

}  // namespace ravine::services
