// A small CoAP server and client over our machine and a real UDP socket, for exchanges with other people's
// programs. usage: coap_peer server [unlimited]      prints "listening PORT", serves until it is ended
//        coap_peer client PORT PATHS       PATHS: text,large,put,slow,observe,fetch in any combination
// The resources, on both sides of a test: /text "ravine", /large 5000 bytes, /echo gives bodies back, /slow
// answers after 1.5 s, /ticks changes every 300 ms; Proxy-Uri http://example.test/x answers "proxied /x".
#include <fmt/format.h>
#include <poll.h>

#include <cstdio>
#include <cstdlib>
#include <set>
#include <string>

#include "gateway/coap/oscore_protection.h"
#include "gateway/coap/uri.h"
#include "host/clock.h"
#include "host/random.h"
#include "host/udp.h"

namespace {

using namespace ravine;
using namespace ravine::gateway::coap;
namespace security = ravine::gateway::security;

constexpr Duration kSlow = 1500ms;
constexpr Duration kTick = 300ms;

Bytes pattern(std::size_t size) {
  Bytes bytes(size);
  for (std::size_t i = 0; i < size; ++i) bytes[i] = static_cast<std::uint8_t>('a' + i % 26);
  return bytes;
}

ExchangerOptions options_of(bool unlimited) {
  ExchangerOptions options;
  options.endpoint.proxying = true;
  options.endpoint.amplification = unlimited ? 0 : 3;
  options.observers.confirm_every = 4;
  options.one_token_per_body = true;
  return options;
}

// The keys of one test are used once, so nothing has to last.
class ForgetfulStore final : public security::SequenceStore {
 public:
  Result<> persist(ByteView) override { return {}; }
};

// aiocoap_peer.py has the same.
security::OscoreParameters test_keys() {
  security::OscoreParameters keys;
  keys.master_secret = *decode_hex("0102030405060708090a0b0c0d0e0f10");
  keys.master_salt = *decode_hex("9e7ca92223786340");
  keys.sender_id = to_bytes(as_bytes("s"));
  keys.recipient_id = to_bytes(as_bytes("c"));
  return keys;
}

// One socket, one machine.
class Loop {
 public:
  Loop(host::UdpSocket socket, const ExchangerOptions& options, bool oscore = false)
      : context_(*security::OscoreContext::make(test_keys(), store_)),
        protection_(random_),
        socket_(std::move(socket)),
        machine(options, random_, oscore ? &protection_ : nullptr) {
    protection_.add(context_);
  }

  // Waits for a datagram or the next deadline, at most `limit`, and lets the machine work.
  void turn(Duration limit) {
    flush();
    const Instant now = host::monotonic_now();
    const Instant wake = std::min(machine.next_deadline().at, now + limit);
    const auto wait = wake > now ? std::chrono::ceil<std::chrono::milliseconds>(wake - now).count() : 0;
    pollfd entry{socket_.descriptor(), POLLIN, 0};
    (void)poll(&entry, 1, static_cast<int>(wait));
    if ((entry.revents & POLLIN) != 0) receive();
    if (machine.next_deadline().at <= host::monotonic_now()) machine.handle_timeout(host::monotonic_now());
    flush();
  }

 private:
  void receive() {
    buffers_.rewind();
    const host::ReceiveRound round = socket_.receive(buffers_, 16);
    for (const Received& received : round.datagrams) {
      const std::size_t step = received.segment_size != 0 ? received.segment_size : received.bytes.size();
      for (std::size_t at = 0; at < received.bytes.size(); at += step) {
        const std::size_t size = std::min(step, received.bytes.size() - at);
        machine.handle_datagram(host::monotonic_now(), received.route.remote,
                                received.bytes.subspan(at, size));
        flush();
      }
    }
  }

  void flush() {
    while (std::optional<OutgoingDatagram> out = machine.poll_transmit(host::monotonic_now())) {
      const host::UdpSocket::Piece piece{out->bytes.data(), out->bytes.size()};
      Route route;
      route.remote = out->to;
      (void)socket_.send(route, 0, {&piece, 1}, 0);
    }
  }

  host::SystemRandom random_;
  ForgetfulStore store_;
  security::OscoreContext context_;
  OscoreProtection protection_;
  host::UdpSocket socket_;
  host::ReceiveBuffers buffers_;

 public:
  Exchanger machine;
};

class Server {
 public:
  explicit Server(Loop& loop) : loop_(loop) {}

  void run() {
    next_tick_ = host::monotonic_now() + kTick;
    for (;;) {
      loop_.turn(50ms);
      while (std::optional<ExchangerEvent> event = loop_.machine.poll_event()) {
        if (auto* request = std::get_if<Serve>(&*event)) serve(*request);
      }
      const Instant now = host::monotonic_now();
      while (!late_.empty() && late_.begin()->first <= now) {
        answer(late_.begin()->second, Code::content, to_bytes(as_bytes("late")));
        late_.erase(late_.begin());
      }
      if (now >= next_tick_) {
        next_tick_ = now + kTick;
        loop_.machine.notify(now, "ticks", content(Code::content, tick_body()));
      }
    }
  }

 private:
  Bytes tick_body() { return to_bytes(as_bytes(fmt::format("tick {}", ++ticks_))); }

  static Message content(Code code, Bytes body) {
    Message response;
    response.code = code;
    if (!body.empty()) response.add_uint(kContentFormat, 0);
    response.payload = std::move(body);
    return response;
  }

  void answer(RequestId id, Code code, Bytes body) {
    (void)loop_.machine.respond(host::monotonic_now(), id, content(code, std::move(body))).ok();
  }

  void serve(Serve& serve) {
    const Message& request = serve.request;
    const Result<ProxyTarget> proxy = proxy_target_of(request);
    if (!proxy) return answer(serve.id, Code::bad_request, {});
    if (proxy->wanted) {
      return answer(serve.id, Code::content, to_bytes(as_bytes("proxied " + proxy->uri.target)));
    }
    const Result<std::string> target = target_of(request);
    const std::string path = target ? *target : "";
    if (path == "/text") return answer(serve.id, Code::content, to_bytes(as_bytes("ravine")));
    if (path == "/large") return answer(serve.id, Code::content, pattern(5000));
    if (path == "/echo" || path.starts_with("/echo?")) {
      const Code code = is_safe(request.code) ? Code::content : Code::changed;
      return answer(serve.id, code, request.payload);
    }
    if (path == "/slow") {
      late_.emplace(host::monotonic_now() + kSlow, serve.id);
      return;
    }
    if (path == "/ticks") {
      if (request.uint_option(kObserve) == 0) {
        (void)loop_.machine.accept_observer(host::monotonic_now(), serve.id, "ticks").ok();
      }
      return answer(serve.id, Code::content, tick_body());
    }
    answer(serve.id, Code::not_found, {});
  }

  Loop& loop_;
  std::multimap<Instant, RequestId> late_;
  Instant next_tick_;
  unsigned ticks_ = 0;
};

// One request, or with `answers` > 1 that many notifications; the responses, empty on failure.
std::vector<Message> ask(Loop& loop, const SocketAddress& server, Code code, const std::string& path,
                         Bytes body, std::size_t answers = 1) {
  Message request;
  request.code = code;
  if (!add_target(request, path)) return {};
  if (!body.empty()) request.add_uint(kContentFormat, 0);  // RFC 8132 §2.1 wants it of FETCH
  request.payload = std::move(body);
  CallOptions how;
  how.observe = answers > 1;
  const Result<CallId> call = loop.machine.call(host::monotonic_now(), server, request, how);
  if (!call) {
    fmt::print("{}: {}\n", path, call.error().message);
    return {};
  }
  std::vector<Message> responses;
  const Instant end = host::monotonic_now() + 20s;
  while (host::monotonic_now() < end) {
    loop.turn(100ms);
    while (std::optional<ExchangerEvent> event = loop.machine.poll_event()) {
      if (auto* answered = std::get_if<CallAnswered>(&*event); answered && answered->call == *call) {
        responses.push_back(std::move(answered->response));
      } else if (auto* failed = std::get_if<CallFailed>(&*event); failed && failed->call == *call) {
        fmt::print("{}: {}: {}\n", path, to_text(failed->fault), failed->detail);
        return {};
      }
    }
    if (responses.size() < answers) continue;
    loop.machine.cancel(*call);
    return responses;
  }
  loop.machine.cancel(*call);
  fmt::print("{}: no answer in time\n", path);
  return {};
}

bool check(Loop& loop, const SocketAddress& server, const std::string& what) {
  const auto one = [&](Code code, const std::string& path, const Bytes& body, const Bytes& expected) {
    const std::vector<Message> responses = ask(loop, server, code, path, body);
    return responses.size() == 1 && is_success(responses[0].code) && responses[0].payload == expected;
  };
  if (what == "text") return one(Code::get, "/text", {}, to_bytes(as_bytes("ravine")));
  if (what == "large") return one(Code::get, "/large", {}, pattern(5000));
  if (what == "put") return one(Code::put, "/echo", pattern(4000), pattern(4000));
  if (what == "fetch") return one(Code::fetch, "/echo", pattern(40), pattern(40));
  if (what == "slow") return one(Code::get, "/slow", {}, to_bytes(as_bytes("late")));
  if (what == "observe") {
    const std::vector<Message> ticks = ask(loop, server, Code::get, "/ticks", {}, 4);
    std::set<Bytes> different;
    for (const Message& tick : ticks) different.insert(tick.payload);
    return different.size() == 4;
  }
  return false;
}

int run_client(Loop& loop, const SocketAddress& server, std::string_view paths) {
  int outcome = 0;
  while (!paths.empty()) {
    const std::size_t comma = paths.find(',');
    const std::string what(paths.substr(0, comma));
    paths = comma == std::string_view::npos ? "" : paths.substr(comma + 1);
    const bool good = check(loop, server, what);
    fmt::print("{} {}\n", what, good ? "ok" : "FAILED");
    if (!good) outcome = 1;
  }
  return outcome;
}

}  // namespace

int main(int count, char** words) {
  const std::string role = count > 1 ? words[1] : "";
  Result<host::UdpSocket> socket = host::UdpSocket::open(*SocketAddress::parse("127.0.0.1:0"));
  if (!socket) {
    fmt::print(stderr, "{}\n", socket.error().message);
    return 1;
  }
  const std::uint16_t port = socket->local_address().port;
  if (role == "server") {
    const std::string_view how = count > 2 ? words[2] : "";
    Loop loop(std::move(*socket), options_of(how == "unlimited"), how == "oscore");
    fmt::print("listening {}\n", port);
    std::fflush(stdout);
    Server(loop).run();
  }
  if (role == "client" && count == 4) {
    const std::optional<SocketAddress> server = SocketAddress::parse(fmt::format("127.0.0.1:{}", words[2]));
    Loop loop(std::move(*socket), options_of(true));
    return server ? run_client(loop, *server, words[3]) : 2;
  }
  fmt::print(stderr, "usage: coap_peer server [unlimited|oscore] | client PORT PATHS\n");
  return 2;
}
