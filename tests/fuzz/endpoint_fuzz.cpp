// One endpoint that accepts, fed with arbitrary datagrams, with those of a real dialler damaged on the way,
// and with time. It must stay alive, come to rest after every input, and never send more than three times
// what came from an address that sent nothing but noise (RFC 9000 §8.1).
#include <map>

#include "fuzz/fuzz_network.h"

using namespace ravine;
using fuzz::expect;

namespace {

constexpr std::size_t kOperations = 400;

struct Account {
  std::size_t received = 0, sent = 0;
};

class World {
 public:
  World()
      : server_(fuzz::members().server, 1, fuzz::address(1, 4433)),
        client_(fuzz::members().client, 2, real_) {
    client_.dial(now_, server_.at());
    settle();
  }

  void step(fuzz::Input& input) {
    switch (input.below(8)) {
      case 0:
        noise(fuzz::address(3, input.u8()), input.bytes(input.below(1500)), 0);
        break;
      case 1: {
        const ByteView train = input.bytes(input.u16());
        noise(fuzz::address(3, 7), train, static_cast<std::uint32_t>(1 + input.below(1500)));
        break;
      }
      case 2:
        damaged(input);
        break;
      case 3:
        deliver(to_server_, server_);
        break;
      case 4:
        deliver(to_client_, client_);
        break;
      case 5:
        now_ = now_ + std::chrono::milliseconds(input.below(3000));
        break;
      case 6:
        if (!to_client_.empty()) to_client_.pop_front();
        break;
      default:
        forged_initial(input);
    }
    server_.timeout(now_);
    client_.timeout(now_);
    settle();
  }

 private:
  void noise(const SocketAddress& from, ByteView bytes, std::uint32_t segment) {
    if (segment > bytes.size()) segment = 0;
    noise_[from].received += bytes.size();
    server_.receive(now_, from, bytes, 0, segment);
  }
  // A padded long header, so that what follows the connection IDs is looked at.
  void forged_initial(fuzz::Input& input) {
    ByteWriter writer;
    writer.write_u8(static_cast<std::uint8_t>(0xc0 | (input.u8() & 0x3f)));
    writer.write_u32(input.below(4) == 0 ? input.u32() : 1);
    for (int id = 0; id < 2; ++id) {
      const std::size_t size = input.below(4) == 0 ? input.below(24) : 12;
      writer.write_u8(static_cast<std::uint8_t>(size));
      for (std::size_t i = 0; i < size; ++i) writer.write_u8(input.u8());
    }
    writer.write(input.bytes(input.below(64)));
    Bytes packet = writer.take();
    packet.resize(std::max<std::size_t>(packet.size(), 1200));
    noise(fuzz::address(static_cast<std::uint8_t>(4 + input.below(4)), 9), packet, 0);
  }
  void damaged(fuzz::Input& input) {
    if (to_server_.empty()) return;
    Bytes bytes = to_server_.front().bytes;
    const std::size_t changes = 1 + input.below(4);
    for (std::size_t i = 0; i < changes; ++i)
      bytes[input.u16() % bytes.size()] ^= static_cast<std::uint8_t>(input.u8());
    if (input.below(4) == 0) bytes.resize(input.u16() % (bytes.size() + 1));
    server_.receive(now_, real_, bytes, static_cast<std::uint8_t>(input.below(4)), 0);
  }
  void deliver(std::deque<fuzz::Datagram>& queue, fuzz::Peer& to) {
    if (queue.empty()) return;
    const fuzz::Datagram datagram = std::move(queue.front());
    queue.pop_front();
    to.receive(now_, datagram.from, datagram.bytes, datagram.ecn, 0);
  }
  void settle() {
    while (server_.endpoint().poll_event()) {
    }
    while (client_.endpoint().poll_event()) {
    }
    std::deque<fuzz::Datagram> sent;
    server_.drain(now_, sent);
    for (fuzz::Datagram& datagram : sent) {
      if (datagram.to == real_) {
        if (to_client_.size() < 256) to_client_.push_back(std::move(datagram));
        continue;
      }
      Account& account = noise_[datagram.to];
      account.sent += datagram.bytes.size();
      expect(account.sent <= 3 * account.received);
    }
    sent.clear();
    client_.drain(now_, sent);
    for (fuzz::Datagram& datagram : sent) {
      if (to_server_.size() < 256) to_server_.push_back(std::move(datagram));
    }
  }

  const SocketAddress real_ = fuzz::address(2, 5000);
  Instant now_{1'000'000'000};
  fuzz::Peer server_, client_;
  std::deque<fuzz::Datagram> to_server_, to_client_;
  std::map<SocketAddress, Account> noise_;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  fuzz::Input input({data, size});
  World world;
  for (std::size_t i = 0; i < kOperations && !input.empty(); ++i) world.step(input);
  return 0;
}
