// OSCORE contexts behind Exchanger's hook for a security layer: chooses the context by peer address (requests
// of ours) or by the key ID that a request names, and turns what OSCORE refuses into the answers of RFC 8613
// §8.2. Pure.
#pragma once

#include <map>
#include <vector>

#include "gateway/coap/exchanger.h"
#include "gateway/security/oscore.h"

namespace ravine::gateway::coap {

struct OscoreProtectionOptions {
  bool allow_clear = false;     // requests without OSCORE are served, and sent to peers without a context
  std::size_t bindings = 4096;  // exchanges and observations at a time
};

class OscoreProtection final : public Protection {
 public:
  // `random` outlives it, and so do the contexts.
  explicit OscoreProtection(RandomSource& random, const OscoreProtectionOptions& options = {})
      : random_(random), options_(options) {}

  void add(security::OscoreContext& context) { contexts_.push_back(&context); }
  // Requests to `peer` are protected with `context`, which is one of those added.
  void set_peer(const SocketAddress& peer, security::OscoreContext& context) { peers_[peer] = &context; }

  std::size_t overhead_bytes() const override;
  Result<Message> seal_request(const SocketAddress& to, const Message& request,
                               std::uint64_t& binding) override;
  std::optional<Message> open_response(std::uint64_t binding, const Message& response,
                                       std::optional<std::uint64_t>& order) override;
  Opened open_request(Instant now, const SocketAddress& from, const Message& request) override;
  Result<Message> seal_response(std::uint64_t binding, const Message& response) override;
  void forget(std::uint64_t binding) override { bindings_.erase(binding); }
  std::size_t bindings() const { return bindings_.size(); }

 private:
  struct Binding {
    security::OscoreContext* context = nullptr;
    security::OscoreExchange exchange;
  };
  std::uint64_t bind(security::OscoreContext& context, security::OscoreExchange exchange);
  Opened challenge(security::OscoreContext& context, security::OscoreExchange exchange);

  RandomSource& random_;
  OscoreProtectionOptions options_;
  std::vector<security::OscoreContext*> contexts_;
  std::map<SocketAddress, security::OscoreContext*> peers_;
  std::map<std::uint64_t, Binding> bindings_;
  std::uint64_t next_binding_ = 1;
};

}  // namespace ravine::gateway::coap
