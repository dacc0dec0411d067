// RevocationExchange: on every new session both sides tell the number of the list that they hold; who has a
// newer one sends it. A list that the store accepts is passed on to all other sessions of the network and
// cuts revoked peers.
#pragma once

#include <map>
#include <vector>

#include "identity/revocation.h"
#include "services/context.h"

namespace ravine::services {

class RevocationStore {
 public:
  virtual ~RevocationStore() = default;
  virtual std::uint64_t number(session::NetworkId network) const = 0;  // 0: none
  // The list as identity::split_revocation cuts it; empty: none.
  virtual std::vector<Bytes> parts(session::NetworkId network) const = 0;
  // Verifies and keeps the list when it is newer: its number. Errors: refused (signature, older),
  // invalid_argument.
  virtual Result<std::uint64_t> offer(session::NetworkId network, ByteView signed_list) = 0;
};

class RevocationExchange final : public runtime::SessionObserver {
 public:
  RevocationExchange(ServiceContext context, RevocationStore& store);
  ~RevocationExchange() override;
  // After the store got a new list locally (`ca revoke`): cuts sessions and tells every live session.
  void announce(session::NetworkId network);

  struct Counters {
    std::uint64_t sent = 0, accepted = 0, rejected = 0;
  };
  const Counters& counters() const { return counters_; }

  void on_established(session::Session& session) override;
  void on_control(session::Session& session) override;
  void on_closed(session::SessionId id, const session::SessionInfo&, const session::CloseReason&) override;

 private:
  void handle_part(session::Session& session, ByteView part);
  void send_list(session::Session& session) const;
  ServiceContext context_;
  RevocationStore& store_;
  struct PerSession {
    identity::RevocationAssembler assembler;
    std::uint32_t rejected = 0, requests = 0;
  };
  std::map<session::SessionId, PerSession> sessions_;
  mutable Counters counters_;
};

}  // namespace ravine::services
