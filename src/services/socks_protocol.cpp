#include "services/socks_protocol.h"

#include <algorithm>

namespace ravine::services {
namespace {

constexpr std::uint8_t kVersion = 5;
constexpr std::uint8_t kCredentialsVersion = 1;  // RFC 1929 §2
constexpr std::uint8_t kMethodNone = 0, kMethodCredentials = 2, kMethodNoneAcceptable = 0xff;
constexpr std::uint8_t kTypeV4 = 1, kTypeDomain = 3, kTypeV6 = 4;

struct Target {
  std::string host;
  bool is_domain = false;
  std::uint16_t port = 0;
  std::size_t size = 0;  // bytes of ATYP, address and port
};
enum class TargetOutcome : std::uint8_t { ready, need_more, bad_type, bad_host };

TargetOutcome decode_target(ByteView bytes, Target& out) {
  if (bytes.size() < 2) return TargetOutcome::need_more;
  std::size_t size = 0, start = 1;
  switch (bytes[0]) {
    case kTypeV4:
      size = 4;
      break;
    case kTypeV6:
      size = 16;
      break;
    case kTypeDomain:
      size = bytes[1];
      start = 2;
      break;
    default:
      return TargetOutcome::bad_type;
  }
  if (bytes.size() < start + size + 2) return TargetOutcome::need_more;
  const ByteView host = bytes.subspan(start, size);
  if (bytes[0] == kTypeDomain) {
    if (host.empty() || std::find(host.begin(), host.end(), 0) != host.end()) return TargetOutcome::bad_host;
    out.host.assign(as_text(host));
    out.is_domain = true;
  } else if (bytes[0] == kTypeV4) {
    out.host = IpAddress::v4({host[0], host[1], host[2], host[3]}).to_text();
  } else {
    std::array<std::uint8_t, 16> raw{};
    std::copy(host.begin(), host.end(), raw.begin());
    out.host = IpAddress::v6(raw).to_text();
  }
  out.port = load_big_endian<std::uint16_t>(bytes.data() + start + size);
  out.size = start + size + 2;
  return TargetOutcome::ready;
}

void write_target(ByteWriter& out, const std::string& host, std::uint16_t port) {
  if (const auto address = IpAddress::parse(host)) {
    out.write_u8(address->is_v4() ? kTypeV4 : kTypeV6);
    out.write({address->data(), address->size()});
  } else {
    const std::size_t size = std::min<std::size_t>(host.size(), 255);
    out.write_u8(kTypeDomain);
    out.write_u8(static_cast<std::uint8_t>(size));
    out.write(as_bytes(std::string_view(host).substr(0, size)));
  }
  out.write_u16(port);
}

}  // namespace

bool is_accepted(const std::vector<Credential>& list, std::string_view user, std::string_view password) {
  bool accepted = false;
  for (const Credential& entry : list) {
    const bool same_user = equal_constant_time(as_bytes(entry.user), as_bytes(user));
    const bool same_password = equal_constant_time(as_bytes(entry.password), as_bytes(password));
    accepted = static_cast<bool>(static_cast<unsigned>(accepted) |
                                 (static_cast<unsigned>(same_user) & static_cast<unsigned>(same_password)));
  }
  return accepted;
}

std::size_t SocksHandshake::feed(ByteView bytes, Bytes& out) {
  std::size_t used = 0;
  while (state_ != State::done && state_ != State::failed) {
    const ByteView rest = bytes.subspan(used);
    std::size_t step = 0;
    if (state_ == State::greeting) {
      step = feed_greeting(rest, out);
    } else if (state_ == State::credentials) {
      step = feed_credentials(rest, out);
    } else {
      step = feed_request(rest, out);
    }
    if (step == 0) break;
    used += step;
  }
  return used;
}

std::size_t SocksHandshake::feed_greeting(ByteView bytes, Bytes& out) {
  if (bytes.empty()) return 0;
  if (bytes[0] != kVersion) {
    state_ = State::failed;
    return 0;
  }
  if (bytes.size() < 2 || bytes.size() < 2u + bytes[1]) return 0;
  const ByteView methods = bytes.subspan(2, bytes[1]);
  const std::uint8_t wanted = accepted_.empty() ? kMethodNone : kMethodCredentials;
  const bool offered = std::find(methods.begin(), methods.end(), wanted) != methods.end();
  out.push_back(kVersion);
  out.push_back(offered ? wanted : kMethodNoneAcceptable);
  state_ = !offered ? State::failed : accepted_.empty() ? State::request : State::credentials;
  return 2u + methods.size();
}

std::size_t SocksHandshake::feed_credentials(ByteView bytes, Bytes& out) {
  if (bytes.empty()) return 0;
  if (bytes[0] != kCredentialsVersion) {
    state_ = State::failed;
    return 0;
  }
  if (bytes.size() < 2 || bytes.size() < 3u + bytes[1]) return 0;
  const std::string_view user = as_text(bytes.subspan(2, bytes[1]));
  const std::size_t password_size = bytes[2u + user.size()];
  const std::size_t total = 3u + user.size() + password_size;
  if (bytes.size() < total) return 0;
  const std::string_view password = as_text(bytes.subspan(3u + user.size(), password_size));
  const bool accepted = is_accepted(accepted_, user, password);
  out.push_back(kCredentialsVersion);
  out.push_back(accepted ? 0 : 1);
  state_ = accepted ? State::request : State::failed;
  return total;
}

std::size_t SocksHandshake::feed_request(ByteView bytes, Bytes& out) {
  const auto fail = [&](SocksReply reply) {
    const Bytes answer = encode_socks_reply(reply, {});
    out.insert(out.end(), answer.begin(), answer.end());
    state_ = State::failed;
    return std::size_t{0};
  };
  if (bytes.empty()) return 0;
  if (bytes[0] != kVersion) return fail(SocksReply::general_failure);
  if (bytes.size() < 4) return 0;
  if (bytes[2] != 0) return fail(SocksReply::general_failure);
  Target target;
  switch (decode_target(bytes.subspan(3), target)) {
    case TargetOutcome::need_more:
      return 0;
    case TargetOutcome::bad_type:
      return fail(SocksReply::address_type_not_supported);
    case TargetOutcome::bad_host:
      return fail(SocksReply::general_failure);
    case TargetOutcome::ready:
      break;
  }
  if (bytes[1] != static_cast<std::uint8_t>(SocksCommand::connect) &&
      bytes[1] != static_cast<std::uint8_t>(SocksCommand::udp_associate)) {
    return fail(SocksReply::command_not_supported);
  }
  request_ = {static_cast<SocksCommand>(bytes[1]), std::move(target.host), target.is_domain, target.port};
  state_ = State::done;
  return 3 + target.size;
}

Bytes encode_socks_reply(SocksReply reply, const SocketAddress& bound) {
  ByteWriter out;
  out.write_u8(kVersion);
  out.write_u8(static_cast<std::uint8_t>(reply));
  out.write_u8(0);
  // An unset address is answered as 0.0.0.0, which every client parses.
  const bool unset = bound.ip.is_v6() && bound.ip.is_unspecified();
  write_target(out, unset ? "0.0.0.0" : bound.ip.to_text(), bound.port);
  return out.take();
}

std::optional<SocksDatagram> decode_socks_datagram(ByteView datagram) {
  if (datagram.size() < 4 || datagram[0] != 0 || datagram[1] != 0 || datagram[2] != 0) return std::nullopt;
  Target target;
  if (decode_target(datagram.subspan(3), target) != TargetOutcome::ready) return std::nullopt;
  return SocksDatagram{std::move(target.host), target.is_domain, target.port,
                       datagram.subspan(3 + target.size)};
}

Bytes encode_socks_datagram(const std::string& host, std::uint16_t port, ByteView payload) {
  ByteWriter out;
  out.write_u16(0);
  out.write_u8(0);
  write_target(out, host, port);
  out.write(payload);
  return out.take();
}

}  // namespace ravine::services
