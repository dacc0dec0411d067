// Two CoAP machines, an application on each, and an attacker between them who drops, repeats, changes and
// invents datagrams: nothing crashes, memory stays in bounds, an unproved address is sent at most three times
// its bytes.
#include <array>

#include "fuzz/fuzz_input.h"
#include "gateway/coap/exchanger.h"

using namespace ravine;
using namespace ravine::gateway::coap;
using fuzz::expect;

namespace {

constexpr std::size_t kMaxDatagrams = 64;

struct World {
  World() : random(5), client(options(), random), server(options(), random) {}

  static ExchangerOptions options() {
    ExchangerOptions made;
    made.block_exponent = 1;
    made.max_body = 400;
    made.held_bytes = 1500;
    made.endpoint.replies = {.entries = 64, .bytes = 2000, .entries_per_peer = 64};
    made.endpoint.queue = {.items = 64, .bytes = 8000};
    made.endpoint.peers = 8;
    return made;
  }

  void drain(Exchanger& machine, bool is_client) {
    while (std::optional<OutgoingDatagram> out = machine.poll_transmit(now)) {
      if (!is_client && out->to == attacker) sent_to_attacker += out->bytes.size();
      if (datagrams.size() < kMaxDatagrams) datagrams.push_back({is_client, std::move(out->bytes)});
    }
    while (std::optional<ExchangerEvent> event = machine.poll_event()) {
      if (auto* serve = std::get_if<Serve>(&*event)) {
        Message response;
        response.code = Code::content;
        response.payload = Bytes(serve->request.payload.size() + 90, 'r');
        if (serve->request.uint_option(kObserve) == 0)
          (void)machine.accept_observer(now, serve->id, "r").ok();
        (void)machine.respond(now, serve->id, std::move(response)).ok();
      }
    }
  }

  void settle() {
    for (int round = 0; round < 3; ++round) {
      drain(client, true);
      drain(server, false);
    }
    expect(client.held_bytes() <= 1500 && server.held_bytes() <= 1500);
    expect(server.endpoint().queue().size() <= 64);
    expect(sent_to_attacker <= 3 * from_attacker);
  }

  void deliver(bool from_client, ByteView bytes) {
    if (from_client) {
      server.handle_datagram(now, client_address, bytes);
    } else {
      client.handle_datagram(now, server_address, bytes);
    }
  }

  struct Datagram {
    bool from_client;
    Bytes bytes;
  };
  SeededRandom random;
  Exchanger client, server;
  Instant now{1'000'000'000};
  SocketAddress client_address = *SocketAddress::parse("192.0.2.1:1");
  SocketAddress server_address = *SocketAddress::parse("192.0.2.2:2");
  SocketAddress attacker = *SocketAddress::parse("192.0.2.3:3");
  std::vector<Datagram> datagrams;
  std::size_t from_attacker = 0, sent_to_attacker = 0;
};

void make_call(World& world, fuzz::Input& input) {
  Message request;
  constexpr std::array kCodes{Code::get, Code::post, Code::put, Code::fetch};
  request.code = kCodes[input.below(kCodes.size())];
  request.add(kUriPath, as_bytes("a"));
  request.payload = Bytes(input.below(300), 'q');
  CallOptions how;
  how.confirmable = input.below(4) != 0;
  how.observe = is_safe(request.code) && input.below(2) != 0;
  (void)world.client.call(world.now, world.server_address, std::move(request), how).ok();
}

void move_datagram(World& world, fuzz::Input& input) {
  if (world.datagrams.empty()) return;
  const std::size_t which = input.below(world.datagrams.size());
  World::Datagram datagram = world.datagrams[which];
  const std::size_t what = input.below(8);
  if (what != 0) world.datagrams.erase(world.datagrams.begin() + static_cast<std::ptrdiff_t>(which));
  if (what == 1) return;  // lost
  if (what == 2 && !datagram.bytes.empty()) datagram.bytes[input.below(datagram.bytes.size())] ^= input.u8();
  world.deliver(datagram.from_client, datagram.bytes);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  fuzz::Input input({data, size});
  World world;
  for (int step = 0; step < 200 && !input.empty(); ++step) {
    switch (input.below(6)) {
      case 0:
        make_call(world, input);
        break;
      case 1:
      case 2:
        move_datagram(world, input);
        break;
      case 3: {
        const ByteView bytes = input.bytes(input.below(64));
        world.from_attacker += bytes.size();
        world.server.handle_datagram(world.now, world.attacker, bytes);
        break;
      }
      case 4: {
        Message state;
        state.code = input.below(8) == 0 ? Code::not_found : Code::content;
        state.payload = Bytes(input.below(120), 's');
        world.server.notify(world.now, "r", state);
        break;
      }
      case 5: {
        world.now = world.now + std::chrono::milliseconds(input.u16());
        for (Exchanger* machine : {&world.client, &world.server}) {
          if (machine->next_deadline().at <= world.now) machine->handle_timeout(world.now);
        }
        break;
      }
    }
    world.settle();
  }
  return 0;
}
