// SOCKS5 as a machine: RFC 1928 (CONNECT, UDP ASSOCIATE), RFC 1929 (user and password). Bytes in, bytes and
// one request out; knows no sockets and no policy.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/address.h"
#include "base/bytes.h"

namespace ravine::services {

struct Credential {
  std::string user, password;  // 1–255 bytes each
};
// Compares against every entry in constant time.
bool is_accepted(const std::vector<Credential>& list, std::string_view user, std::string_view password);

enum class SocksReply : std::uint8_t {  // RFC 1928 §6
  succeeded = 0,
  general_failure = 1,
  not_allowed = 2,
  network_unreachable = 3,
  host_unreachable = 4,
  connection_refused = 5,
  ttl_expired = 6,
  command_not_supported = 7,
  address_type_not_supported = 8,
};

enum class SocksCommand : std::uint8_t { connect = 1, bind = 2, udp_associate = 3 };

struct SocksRequest {
  SocksCommand command = SocksCommand::connect;
  std::string host;  // domain as sent, or address text
  bool is_domain = false;
  std::uint16_t port = 0;
};

class SocksHandshake {
 public:
  enum class State : std::uint8_t { greeting, credentials, request, done, failed };
  // An empty list: no authentication is asked.
  explicit SocksHandshake(const std::vector<Credential>& accepted) : accepted_(accepted) {}

  // Takes bytes from the front of `bytes`; returns how many were used. Appends what to send to `out`. After
  // `done` the rest belongs to the tunnel; after `failed` send `out`, then close. Holds no bytes: call again
  // with more.
  std::size_t feed(ByteView bytes, Bytes& out);
  State state() const { return state_; }
  const SocksRequest& request() const { return request_; }

 private:
  std::size_t feed_greeting(ByteView bytes, Bytes& out);
  std::size_t feed_credentials(ByteView bytes, Bytes& out);
  std::size_t feed_request(ByteView bytes, Bytes& out);
  const std::vector<Credential>& accepted_;
  State state_ = State::greeting;
  SocksRequest request_;
};

// VER REP RSV ATYP BND.ADDR BND.PORT
Bytes encode_socks_reply(SocksReply reply, const SocketAddress& bound);

// The header of a UDP request (RFC 1928 §7). Views into the datagram. nullopt: malformed, or a fragment (FRAG
// != 0).
struct SocksDatagram {
  std::string host;
  bool is_domain = false;
  std::uint16_t port = 0;
  ByteView payload;
};
std::optional<SocksDatagram> decode_socks_datagram(ByteView datagram);
// With the domain or address by which the client named the target.
Bytes encode_socks_datagram(const std::string& host, std::uint16_t port, ByteView payload);

}  // namespace ravine::services
