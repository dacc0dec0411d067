// The CoAP proxy between clients who send anything and a server that answers anything: it stays within its
// limits, what it asks of the server is well-formed HTTP, and an unproved address is sent at most three times
// its bytes.
#include <array>

#include "fuzz/fuzz_input.h"
#include "gateway/coap_proxy/coap_to_http.h"
#include "gateway/core/text.h"

using namespace ravine;
using namespace ravine::gateway;
using namespace ravine::gateway::coap_proxy;
using fuzz::expect;

namespace {

constexpr std::array<std::string_view, 12> kParts{"7",      "9",  "!r:s", "m.room.message", "t",  "_matrix",
                                                  "client", "r0", "sync", "since=s1",       "..", "a/b"};
constexpr std::array<std::string_view, 10> kNames{
    "content-type", "etag",     "cache-control",    "age", "location",
    "retry-after",  "location", "content-encoding", "x",   "ETag"};
constexpr std::array<std::string_view, 10> kValues{"application/json; charset=utf-8",
                                                   "\"tag\"",
                                                   "W/\"a-longer-tag\"",
                                                   "max-age=60",
                                                   "/a/b?c",
                                                   "10",
                                                   "gzip",
                                                   "",
                                                   "max-age=99999999999999999999",
                                                   "http://ok.example/x"};

struct World {
  World() : proxy(options(), random) {}

  static CoapToHttpOptions options() {
    CoapToHttpOptions made;
    made.allow_clear = true;
    made.mapping.max_body = 2000;
    made.mapping.forward = *AllowedHosts::parse({"ok.example", "*.dom.example"});
    made.exchanger.held_bytes = 6000;
    made.exchanger.endpoint.peers = 8;
    made.waiting = 8;
    made.waiting_per_peer = 4;
    made.watched = 4;
    return made;
  }

  void settle() {
    while (auto asked = proxy.poll_upstream()) {
      expect(!core::check_request(asked->request, {}));
      expect(asked->origin.empty() || asked->origin.find("example") != std::string::npos);
      open.push_back(asked->id);
      if (open.size() > 64) open.erase(open.begin());
    }
    while (auto gone = proxy.poll_withdrawn()) std::erase(open, *gone);
    while (auto out = proxy.poll_transmit(now))
      if (out->to == stranger) sent_to_stranger += out->bytes.size();
    expect(proxy.waiting() <= 12 && proxy.watched() <= 4);
    expect(proxy.exchanger().held_bytes() <= 6000);
    expect(sent_to_stranger <= 3 * from_stranger);
  }

  SeededRandom random{11};
  CoapToHttp proxy;
  Instant now{1'000'000'000};
  SocketAddress local = *SocketAddress::parse("127.0.0.1:1");  // trusted
  SocketAddress stranger = *SocketAddress::parse("192.0.2.3:3");
  std::vector<UpstreamId> open;
  std::size_t from_stranger = 0, sent_to_stranger = 0;
  std::uint16_t next_id = 1;
};

void send(World& world, bool strange, ByteView bytes) {
  if (strange) world.from_stranger += bytes.size();
  world.proxy.handle_datagram(world.now, strange ? world.stranger : world.local, bytes);
}

void send_request(World& world, fuzz::Input& input) {
  coap::Message message;
  message.type = input.below(4) == 0 ? coap::MessageType::non_confirmable : coap::MessageType::confirmable;
  message.code = static_cast<coap::Code>(1 + input.below(7));
  message.id = world.next_id++;
  message.token = to_bytes(input.bytes(input.below(9)));
  for (std::size_t parts = input.below(6); parts > 0; --parts)
    message.add(coap::kUriPath, as_bytes(kParts[input.below(kParts.size())]));
  const std::size_t what = input.below(16);
  if ((what & 1) != 0) message.add_uint(coap::kObserve, input.below(2));
  if ((what & 2) != 0) message.add_uint(coap::kContentFormat, input.below(4) == 0 ? input.u16() : 60);
  if ((what & 4) != 0)
    message.add(static_cast<std::uint16_t>(input.below(300)), input.bytes(input.below(24)));
  if ((what & 8) != 0)
    message.add(coap::kProxyUri,
                as_bytes(input.below(2) == 0 ? "http://ok.example/p" : "http://no.example/"));
  message.payload = to_bytes(input.bytes(input.below(64)));
  const bool strange = input.below(3) == 0;
  send(world, strange, coap::encode_message(message));
}

void answer(World& world, fuzz::Input& input) {
  if (world.open.empty()) return;
  const std::size_t which = input.below(world.open.size());
  const UpstreamId id = world.open[which];
  world.open.erase(world.open.begin() + static_cast<std::ptrdiff_t>(which));
  if (input.below(5) == 0) {
    world.proxy.handle_failure(world.now, id, static_cast<UpstreamError>(input.below(4)));
    return;
  }
  core::HttpResponse response;
  constexpr std::array<std::uint16_t, 9> kStatuses{200, 200, 201, 204, 304, 404, 503, 99, 999};
  response.status = kStatuses[input.below(kStatuses.size())];
  for (std::size_t headers = input.below(4); headers > 0; --headers)
    response.headers.emplace_back(kNames[input.below(kNames.size())], kValues[input.below(kValues.size())]);
  response.body = to_bytes(input.bytes(input.below(80)));
  if (input.below(4) == 0) response.body = to_bytes(as_bytes(R"({"next_batch":"s2","rooms":{"join":{}}})"));
  if (input.below(8) == 0) response.body.resize(1900, 'x');
  world.proxy.handle_response(world.now, id, std::move(response));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  fuzz::Input input({data, size});
  World world;
  for (int step = 0; step < 200 && !input.empty(); ++step) {
    switch (input.below(6)) {
      case 0:
      case 1:
        send_request(world, input);
        break;
      case 2:
      case 3:
        answer(world, input);
        break;
      case 4:
        send(world, input.below(2) == 0, input.bytes(input.below(64)));
        break;
      default:
        world.now = world.now + std::chrono::milliseconds(input.u16());
        if (world.proxy.next_deadline().at <= world.now) world.proxy.handle_timeout(world.now);
        break;
    }
    world.settle();
  }
  return 0;
}
