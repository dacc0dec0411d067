// What programs on this machine may send to the proxy and the metrics port: SOCKS5 in any pieces, its
// datagrams, HTTP heads. The same bytes give the same outcome however they are cut.
#include "fuzz/fuzz_input.h"
#include "services/http_protocol.h"
#include "services/socks_protocol.h"

using namespace ravine;
using fuzz::expect;
using services::SocksHandshake;

namespace {

const std::vector<services::Credential> kNobody;
const std::vector<services::Credential> kSomebody = {{"user", "password"}};

struct Socks {
  SocksHandshake::State state;
  Bytes answer;
  std::size_t used;
  std::string host;
  std::uint16_t port;
  friend bool operator==(const Socks&, const Socks&) = default;
};

// Feeds `piece` more bytes at a time, handing unused ones over again as a socket's buffer does.
Socks shake(ByteView stream, std::size_t piece, const std::vector<services::Credential>& accepted) {
  SocksHandshake handshake(accepted);
  Bytes answer;
  std::size_t used = 0, seen = 0;
  while (seen < stream.size()) {
    seen = std::min(seen + piece, stream.size());
    for (;;) {
      if (handshake.state() == SocksHandshake::State::done ||
          handshake.state() == SocksHandshake::State::failed)
        break;
      const std::size_t taken = handshake.feed(stream.subspan(used, seen - used), answer);
      expect(taken <= seen - used);
      used += taken;
      if (taken == 0) break;
    }
  }
  return {handshake.state(), answer, used, handshake.request().host, handshake.request().port};
}

void check_http(ByteView bytes) {
  const services::HttpParse parse = services::parse_http_head(bytes);
  if (parse.outcome != services::HttpOutcome::ready) return;
  expect(parse.size <= bytes.size() && parse.size <= services::kMaxHttpHead);
  expect(parse.head.fields.size() <= services::kMaxHttpFields);
  const services::HttpParse again = services::parse_http_head(bytes.first(parse.size));
  expect(again.outcome == services::HttpOutcome::ready && again.head.target == parse.head.target);
  expect(services::parse_http_head(bytes.first(parse.size - 1)).outcome == services::HttpOutcome::need_more);
  for (const auto& [name, value] : parse.head.fields) {
    expect(value.find_first_of("\r\n") == std::string::npos &&
           name.find_first_of("\r\n: ") == std::string::npos);
    (void)services::parse_basic(value);
  }
  (void)services::is_host_allowed(parse.head, 80, {});
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const ByteView bytes(data, size);
  for (const auto* accepted : {&kNobody, &kSomebody}) {
    expect(shake(bytes, size + 1, *accepted) == shake(bytes, 1, *accepted));
  }
  if (const auto datagram = services::decode_socks_datagram(bytes)) {
    const Bytes encoded = services::encode_socks_datagram(datagram->host, datagram->port, datagram->payload);
    const auto again = services::decode_socks_datagram(encoded);
    expect(again && again->port == datagram->port && to_bytes(again->payload) == to_bytes(datagram->payload));
  }
  check_http(bytes);
  return 0;
}
