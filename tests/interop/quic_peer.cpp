// quic_peer: our session engine as a plain QUIC client or echo server, for exchanges with other people's
// stacks. It drives one Connection over a blocking UDP socket, below everything that two Ravine nodes would
// say to each other.
//
//   quic_peer client PORT ALPN STREAMS BYTES    opens streams, sends a pattern, expects it back
//   quic_peer server                            prints "listening PORT", serves one connection, then ends
// What is exchanged: exchange.mjs. Exit code 0 when all bytes were right and the connection ended in order.
#include <arpa/inet.h>
#include <gnutls/gnutls.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <string>

#include "interop/certificate.h"
#include "session/connection.h"
#include "wire/quic_packet.h"

// quinn's certificates are ECDSA P-256, which Ravine itself never accepts: this program alone adds the
// algorithm to the engine's priorities (the linker sends the engine's calls here, see CMakeLists.txt).
extern "C" int __real_gnutls_priority_init2(gnutls_priority_t*, const char*, const char**, unsigned);
extern "C" int __wrap_gnutls_priority_init2(gnutls_priority_t* cache, const char* priorities,
                                            const char** error, unsigned flags) {
  const std::string widened = std::string(priorities) + ":+SIGN-ECDSA-SECP256R1-SHA256:+SIGN-ECDSA-SHA256";
  return __real_gnutls_priority_init2(cache, widened.c_str(), error, flags);
}

namespace {

using namespace ravine;
using session::Connection;
using session::EventKind;
using session::StreamId;

constexpr session::SyntheticPath kPath{0, 1};
constexpr auto kPatience = 30s;  // for the whole exchange

class SystemRandom final : public RandomSource {
 public:
  void fill(MutableBytes out) override {
    if (getrandom(out.data(), out.size(), 0) != static_cast<ssize_t>(out.size())) std::abort();
  }
};

class SystemClock final : public WallClock {
 public:
  UnixTime unix_time() const override {
    return {
        std::chrono::duration_cast<std::chrono::seconds>(std::chrono::system_clock::now().time_since_epoch())
            .count()};
  }
};

Instant read_clock() {
  const auto since = std::chrono::steady_clock::now().time_since_epoch();
  return {static_cast<std::uint64_t>(std::chrono::duration_cast<std::chrono::nanoseconds>(since).count())};
}

std::uint8_t pattern(std::size_t stream, std::size_t offset) {
  return static_cast<std::uint8_t>(offset * 31 + stream * 7 + (offset >> 8));
}

class AnyoneSelector final : public session::AcceptSelector {
 public:
  AnyoneSelector(std::shared_ptr<const session::TlsContext> tls,
                 std::shared_ptr<const identity::VerifyPolicy> policy)
      : tls_(std::move(tls)), policy_(std::move(policy)) {}
  std::span<const std::string> alpns() const override { return alpns_; }
  std::variant<session::AcceptChoice, session::AcceptRefusal> select(std::string_view,
                                                                     std::string_view) const override {
    return session::AcceptChoice{{0}, tls_, policy_, true};
  }

 private:
  std::shared_ptr<const session::TlsContext> tls_;
  std::shared_ptr<const identity::VerifyPolicy> policy_;
  std::vector<std::string> alpns_{"ravine-interop", "libp2p"};
};

[[noreturn]] void fail(const std::string& what) {
  std::fprintf(stderr, "quic_peer: %s\n", what.c_str());
  std::exit(1);
}

// A UDP socket on loopback and the one connection behind it.
class Peer {
 public:
  Peer() : socket_(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0)) {
    random_.fill(secret_);
    identity_ = interop::make_identity(clock_.unix_time());
    auto made = session::TlsContext::make(&identity_, secret_);
    if (!made) fail(made.error().message);
    tls_ = *made;
    selector_ = std::make_unique<AnyoneSelector>(tls_, policy_);
    local_.sin_family = AF_INET;
    local_.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof local_;
    if (bind(socket_, reinterpret_cast<sockaddr*>(&local_), size) < 0 ||
        getsockname(socket_, reinterpret_cast<sockaddr*>(&local_), &size) < 0)
      fail("cannot bind a UDP socket on loopback");
  }
  ~Peer() { close(socket_); }
  Peer(const Peer&) = delete;
  Peer& operator=(const Peer&) = delete;

  std::uint16_t port() const { return ntohs(local_.sin_port); }
  Connection* connection() { return connection_.get(); }

  void dial(std::uint16_t port, const std::string& alpn) {
    remote_ = local_;
    remote_.sin_port = htons(port);
    session::ConnectionOptions options;
    options.alpn = alpn;
    options.server_name = "interop.test";
    options.tls = tls_;
    options.policy = policy_;
    auto dialled = Connection::dial(read_clock(), std::move(options), random_, clock_, secret_,
                                    random_label(), random_label(), kPath);
    if (!dialled) fail(dialled.error().message);
    connection_ = std::move(*dialled);
  }

  // One turn: send what there is, wait for a packet or the deadline, feed both in.
  void turn(Instant give_up) {
    flush(read_clock());
    Instant until = give_up;
    if (connection_) until = std::min(until, connection_->next_deadline().at);
    const Instant now = read_clock();
    const std::int64_t wait_ns = until > now ? (until - now).count() : 0;
    const timespec limit{wait_ns / 1'000'000'000, wait_ns % 1'000'000'000};
    pollfd waiting{socket_, POLLIN, 0};
    if (ppoll(&waiting, 1, &limit, nullptr) > 0) receive();
    if (connection_ && connection_->next_deadline().at <= read_clock())
      connection_->handle_timeout(read_clock());
  }

  void flush(Instant now) {
    if (!connection_) return;
    std::vector<session::OutgoingPacket> packets;
    while (connection_->write(now, space_, packets) > 0) {
      for (const auto& packet : packets) send(packet);
      packets.clear();
    }
  }

  void close_in_order() {
    connection_->close(read_clock(), session::AppError::none, "done");
    if (const auto packet = connection_->write_close(read_clock(), space_)) send(*packet);
  }

 private:
  Label random_label() { return {random_.next_u64() | 1}; }

  void send(const session::OutgoingPacket& packet) {
    if (sendto(socket_, packet.data, packet.size, 0, reinterpret_cast<sockaddr*>(&remote_), sizeof remote_) <
        0)
      std::perror("sendto");
  }

  void receive() {
    std::array<std::uint8_t, 65536> buffer;
    sockaddr_in from{};
    socklen_t size = sizeof from;
    for (;;) {
      const ssize_t got = recvfrom(socket_, buffer.data(), buffer.size(), MSG_DONTWAIT,
                                   reinterpret_cast<sockaddr*>(&from), &size);
      if (got < 0) return;
      const ByteView packet(buffer.data(), static_cast<std::size_t>(got));
      if (!connection_) accept(packet, from);
      if (connection_ && connection_->read(read_clock(), kPath, 0, packet) == session::ReadOutcome::failed) {
        if (const auto last = connection_->write_close(read_clock(), space_)) send(*last);
        return;
      }
    }
  }

  void accept(ByteView packet, const sockaddr_in& from) {
    const auto header = wire::decode_long_header(packet);
    if (!header || header->version != 1) return;
    session::ConnectionOptions options;
    options.role = session::Role::acceptor;
    options.selector = selector_.get();
    session::AcceptedInitial initial;
    initial.original_dcid = to_bytes(header->dcid);
    initial.client_scid = to_bytes(header->scid);
    auto accepted = Connection::accept(read_clock(), std::move(options), random_, clock_, secret_,
                                       random_label(), initial, kPath);
    if (!accepted) fail(accepted.error().message);
    connection_ = std::move(*accepted);
    remote_ = from;
  }

  SystemRandom random_;
  SystemClock clock_;
  Bytes secret_ = Bytes(32);
  identity::LocalIdentity identity_;
  std::shared_ptr<const identity::VerifyPolicy> policy_ = std::make_shared<interop::AcceptAnyone>();
  std::shared_ptr<const session::TlsContext> tls_;
  std::unique_ptr<AnyoneSelector> selector_;
  int socket_;
  sockaddr_in local_{}, remote_{};
  std::unique_ptr<Connection> connection_;
  Bytes space_ = Bytes(64 * 1500);
};

// One stream of the client: sends the pattern, checks what comes back.
struct Exchange {
  std::size_t index = 0, size = 0, sent = 0, received = 0;

  void send(Connection& connection, StreamId stream) {
    while (sent < size) {
      std::array<std::uint8_t, 4096> chunk;
      const std::size_t want = std::min(chunk.size(), size - sent);
      for (std::size_t i = 0; i < want; ++i) chunk[i] = pattern(index, sent + i);
      const std::size_t taken = connection.write_stream(stream, ByteView(chunk).first(want));
      sent += taken;
      if (taken < want) return;
    }
    connection.finish_stream(stream);
  }

  // True once everything came back, and FIN after it.
  bool receive(Connection& connection, StreamId stream) {
    for (ByteView data = connection.peek_stream(stream); !data.empty();
         data = connection.peek_stream(stream)) {
      for (const std::uint8_t byte : data)
        if (byte != pattern(index, received++)) fail("wrong byte in stream " + std::to_string(index));
      connection.consume_stream(stream, data.size());
    }
    if (!connection.is_stream_finished(stream)) return false;
    if (received != size) fail("stream " + std::to_string(index) + " ended early");
    return true;
  }
};

int run_client(std::uint16_t port, const std::string& alpn, std::size_t streams, std::size_t bytes) {
  Peer peer;
  peer.dial(port, alpn);
  const Instant give_up = read_clock() + kPatience;
  std::map<StreamId, Exchange> running;
  std::size_t opened = 0, done = 0;
  while (done < streams) {
    if (read_clock() > give_up) fail("not done in time: " + std::to_string(done) + " streams");
    peer.turn(give_up);
    Connection& connection = *peer.connection();
    if (connection.is_closed()) fail("closed: " + connection.close_reason().text);
    while (connection.is_confirmed() && opened < streams) {
      const auto stream = connection.open_stream(session::StreamKind::bidirectional, nullptr);
      if (!stream) break;
      running[*stream] = {opened++, bytes};
      running[*stream].send(connection, *stream);
    }
    while (const auto event = connection.poll_event()) {
      const auto found = running.find(event->stream);
      if (found == running.end()) continue;
      if (event->kind == EventKind::stream_writable) found->second.send(connection, event->stream);
      if (event->kind == EventKind::stream_readable && found->second.receive(connection, event->stream)) {
        running.erase(found);
        ++done;
      }
    }
  }
  peer.flush(read_clock());
  std::printf("exchanged %zu x %zu bytes, %s, %s\n", streams, bytes,
              peer.connection()->info().tls_cipher.c_str(), peer.connection()->info().protection.c_str());
  peer.close_in_order();
  return 0;
}

// Echoes as much as the stream takes.
void echo(Connection& connection, StreamId stream) {
  for (ByteView data = connection.peek_stream(stream); !data.empty(); data = connection.peek_stream(stream)) {
    const std::size_t taken = connection.write_stream(stream, data);
    if (taken == 0) return;
    connection.consume_stream(stream, taken);
  }
  if (connection.is_stream_finished(stream)) connection.finish_stream(stream);
}

int run_server() {
  Peer peer;
  std::printf("listening %u\n", unsigned{peer.port()});
  std::fflush(stdout);
  const Instant give_up = read_clock() + kPatience;
  std::size_t closed = 0;
  for (;;) {
    if (read_clock() > give_up) fail("nobody came, or the connection hangs");
    peer.turn(give_up);
    if (peer.connection() == nullptr) continue;
    Connection& connection = *peer.connection();
    while (const auto event = connection.poll_event()) {
      if (event->kind == EventKind::stream_readable || event->kind == EventKind::stream_writable)
        echo(connection, event->stream);
      if (event->kind == EventKind::stream_closed) {
        ++closed;
        connection.forget_stream(event->stream);
      }
    }
    if (!connection.is_closed()) continue;
    std::printf("served %zu streams; %s\n", closed, connection.close_reason().text.c_str());
    return closed > 0 ? 0 : 1;
  }
}

}  // namespace

int main(int argc, char** argv) {
  const std::string mode = argc > 1 ? argv[1] : "";
  if (mode == "server" && argc == 2) return run_server();
  if (mode == "client" && argc == 6)
    return run_client(static_cast<std::uint16_t>(std::atoi(argv[2])), argv[3],
                      static_cast<std::size_t>(std::atoll(argv[4])),
                      static_cast<std::size_t>(std::atoll(argv[5])));
  std::fprintf(stderr, "usage: quic_peer client PORT ALPN STREAMS BYTES | server\n");
  return 2;
}
