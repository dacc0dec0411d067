#include "services/revocation_exchange.h"

namespace ravine::services {
namespace {

constexpr std::uint32_t kMaxRejected = 3;   // lists with a bad signature, per session
constexpr std::uint32_t kMaxRequests = 64;  // per session; a list may be 1 MiB

bool is_member(const session::SessionInfo& info) {
  return info.alpn == session::kAlpn && info.has_certificate;
}

}  // namespace

RevocationExchange::RevocationExchange(ServiceContext context, RevocationStore& store)
    : context_(std::move(context)), store_(store) {
  context_.log = context_.log.named("revocation");
  context_.driver.add_observer(this);
}

RevocationExchange::~RevocationExchange() {
  context_.driver.remove_observer(this);
}

void RevocationExchange::announce(session::NetworkId network) {
  runtime::Driver& driver = context_.driver;
  driver.endpoint().recheck_peers(driver.enter());
  for (const session::SessionId id : driver.endpoint().sessions()) {
    session::Session* session = driver.endpoint().find(id);
    if (session == nullptr || !session->is_established() || session->is_closing()) continue;
    if (session->info().network == network && is_member(session->info())) send_list(*session);
  }
  driver.touch();
}

void RevocationExchange::on_established(session::Session& session) {
  if (!is_member(session.info())) return;
  wire::ControlMessage message;
  message.mutable_revocation_request()->set_have_number(store_.number(session.info().network));
  session.send_control(message);
}

void RevocationExchange::on_control(session::Session& session) {
  while (const auto message = session.poll_control()) {
    if (!is_member(session.info())) continue;
    if (message->has_revocation_request()) {
      const std::uint64_t have = message->revocation_request().have_number();
      PerSession& state = sessions_[session.id()];
      if (have < store_.number(session.info().network) && ++state.requests <= kMaxRequests)
        send_list(session);
    } else if (message->has_revocation_list()) {
      handle_part(session, as_bytes(message->revocation_list().signed_list()));
      if (session.is_closing()) return;
    }
  }
}

void RevocationExchange::send_list(session::Session& session) const {
  for (Bytes& part : store_.parts(session.info().network)) {
    wire::ControlMessage message;
    message.mutable_revocation_list()->set_signed_list(std::string(as_text(part)));
    session.send_control(message);
  }
  ++counters_.sent;
}

void RevocationExchange::handle_part(session::Session& session, ByteView part) {
  PerSession& state = sessions_[session.id()];
  const auto list = state.assembler.feed(part);
  if (!list) return;
  const session::NetworkId network = session.info().network;
  const std::uint64_t before = store_.number(network);
  const auto taken = store_.offer(network, *list);
  if (!taken) {
    ++counters_.rejected;
    context_.log.warning("a revocation list from a peer was not accepted: {}", taken.error().message);
    if (++state.rejected >= kMaxRejected) {
      session.close(context_.driver.now(), session::AppError::protocol,
                    "revocation lists that nobody signed");
    }
    return;
  }
  if (*taken == before) return;
  ++counters_.accepted;
  context_.log.info("revocation list {} of a network is in force", *taken);
  announce(network);
}

void RevocationExchange::on_closed(session::SessionId id, const session::SessionInfo&,
                                   const session::CloseReason&) {
  sessions_.erase(id);
}

}  // namespace ravine::services
