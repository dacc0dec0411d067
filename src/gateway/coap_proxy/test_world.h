// CoAP clients, the proxy, and an HTTP server that a function plays, in virtual time. For tests.
#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <map>

#include "gateway/coap/uri.h"
#include "gateway/coap_proxy/coap_to_http.h"
#include "gateway/security/test_store.h"

namespace ravine::gateway::coap_proxy {

inline const SocketAddress kProxyAddress = *SocketAddress::parse("192.0.2.2:5683");

inline core::HttpResponse json_response(std::uint16_t status, std::string_view body) {
  return {status, {{"Content-Type", "application/json"}}, to_bytes(as_bytes(body))};
}

inline security::OscoreParameters test_parameters(std::uint8_t own, std::uint8_t other) {
  security::OscoreParameters made;
  made.master_secret = Bytes(16, 7);
  made.sender_id = {own};
  made.recipient_id = {other};
  return made;
}

class World {
 public:
  // A CoAP client with its own address.
  struct Client {
    explicit Client(RandomSource& random, coap::Protection* protection = nullptr)
        : machine({}, random, protection) {}
    SocketAddress address;
    coap::Exchanger machine;
    std::vector<coap::Message> answers;
    std::vector<coap::CallFault> faults;
  };

  explicit World(CoapToHttpOptions options = clear()) : proxy(std::move(options), random) {}

  static CoapToHttpOptions clear() {
    CoapToHttpOptions options;
    options.allow_clear = true;
    return options;
  }

  Client& add_client(coap::Protection* protection = nullptr) {
    clients.push_back(std::make_unique<Client>(random, protection));
    const auto port = static_cast<std::uint16_t>(40000 + clients.size());
    clients.back()->address = {IpAddress::v4({192, 0, 2, 1}), port};
    return *clients.back();
  }

  coap::CallId call(Client& client, coap::Message request, bool observe = false) {
    coap::CallOptions how;
    how.observe = observe;
    const auto made = client.machine.call(now, kProxyAddress, std::move(request), how);
    EXPECT_TRUE(made.ok());
    return made ? *made : 0;
  }

  // The one answer to a request.
  coap::Message ask(Client& client, coap::Message request) {
    const std::size_t before = client.answers.size();
    call(client, std::move(request));
    run([&] { return client.answers.size() > before; });
    return client.answers.size() > before ? client.answers.back() : coap::Message{};
  }

  // Runs until `done`, or nothing is left to do within `limit`.
  bool run(const std::function<bool()>& done, Duration limit = 600s) {
    const Instant end = now + limit;
    for (int step = 0; step < 100'000; ++step) {
      settle();
      if (done()) return true;
      Instant next = proxy.next_deadline().at;
      for (const auto& client : clients) next = std::min(next, client->machine.next_deadline().at);
      if (next.is_never() || next > end) {
        now = std::max(now, end);
        return false;
      }
      now = std::max(now, next);
      for (const auto& client : clients)
        if (client->machine.next_deadline().at <= now) client->machine.handle_timeout(now);
      if (proxy.next_deadline().at <= now) proxy.handle_timeout(now);
    }
    return false;
  }

  void settle() {
    for (bool moved = true; moved;) {
      moved = false;
      for (const auto& client : clients) {
        while (auto out = client->machine.poll_transmit(now)) {
          moved = true;
          if (!drop || !drop(true)) proxy.handle_datagram(now, client->address, out->bytes);
        }
        while (auto event = client->machine.poll_event()) take(*client, *event);
      }
      while (auto asked = proxy.poll_upstream()) {
        moved = true;
        requests.push_back(*asked);
        if (auto response = serve ? serve(*asked) : std::nullopt)
          proxy.handle_response(now, asked->id, std::move(*response));
      }
      while (auto gone = proxy.poll_withdrawn()) withdrawn.push_back(*gone);
      while (auto out = proxy.poll_transmit(now)) {
        moved = true;
        for (const auto& client : clients)
          if (client->address == out->to && (!drop || !drop(false)))
            client->machine.handle_datagram(now, kProxyAddress, out->bytes);
      }
    }
  }

  // Plays the server; nullopt leaves the request open.
  std::function<std::optional<core::HttpResponse>(const CoapUpstreamRequest&)> serve;
  std::function<bool(bool to_proxy)> drop;
  Instant now{1'000'000'000'000};
  SeededRandom random{7};
  CoapToHttp proxy;
  std::vector<std::unique_ptr<Client>> clients;
  std::vector<CoapUpstreamRequest> requests;
  std::vector<UpstreamId> withdrawn;

 private:
  static void take(Client& client, coap::ExchangerEvent& event) {
    if (auto* answered = std::get_if<coap::CallAnswered>(&event)) {
      client.answers.push_back(std::move(answered->response));
    } else if (auto* failed = std::get_if<coap::CallFailed>(&event)) {
      client.faults.push_back(failed->fault);
    }
  }
};

inline coap::Message make_request(coap::Code code, std::string_view target, std::string_view body = {},
                                  std::optional<std::uint16_t> format = std::nullopt) {
  coap::Message message;
  message.code = code;
  EXPECT_TRUE(coap::add_target(message, target).ok()) << target;
  if (format) message.add_uint(coap::kContentFormat, *format);
  message.payload = to_bytes(as_bytes(body));
  return message;
}

}  // namespace ravine::gateway::coap_proxy
