#include "services/metrics.h"

#include <fmt/format.h>
#include <prometheus/metric_family.h>
#include <prometheus/text_serializer.h>
#include <sys/socket.h>

#include <algorithm>
#include <boost/asio/steady_timer.hpp>
#include <cerrno>
#include <set>
#include <sstream>
#include <utility>

#include "services/http_protocol.h"
#include "services/socket.h"

namespace ravine::services {
namespace {

constexpr std::size_t kMaxClients = 16;
constexpr auto kClientTimeout = std::chrono::seconds(10);

struct Value {
  std::string name, text;
  prometheus::MetricType type;
  Metrics::Labels labels;
  std::function<double()> read;
};

}  // namespace

struct Metrics::Impl {
  std::vector<Value> values;
};

Metrics::Metrics() : impl_(std::make_unique<Impl>()) {}
Metrics::~Metrics() = default;

void Metrics::add_counter(std::string name, std::string text, std::function<double()> read, Labels labels) {
  impl_->values.push_back({std::move(name), std::move(text), prometheus::MetricType::Counter,
                           std::move(labels), std::move(read)});
}

void Metrics::add_gauge(std::string name, std::string text, std::function<double()> read, Labels labels) {
  impl_->values.push_back(
      {std::move(name), std::move(text), prometheus::MetricType::Gauge, std::move(labels), std::move(read)});
}

void Metrics::add_driver(runtime::Driver& driver) {
  using Counters = session::Endpoint::Counters;
  struct Entry {
    const char* name;
    const char* text;
    std::uint64_t Counters::* field;
  };
  static constexpr Entry kEntries[] = {
      {"ravine_datagrams_received_total", "UDP datagrams received", &Counters::datagrams_received},
      {"ravine_datagrams_sent_total", "UDP datagrams sent", &Counters::datagrams_sent},
      {"ravine_received_bytes_total", "UDP payload bytes received", &Counters::bytes_received},
      {"ravine_sent_bytes_total", "UDP payload bytes sent", &Counters::bytes_sent},
      {"ravine_unknown_label_total", "Datagrams whose label nobody knows", &Counters::unknown_label},
      {"ravine_malformed_total", "Datagrams that were no QUIC packets", &Counters::malformed},
      {"ravine_wrong_source_total", "Datagrams from an address that does not own the label",
       &Counters::wrong_source},
      {"ravine_retries_sent_total", "Retry packets sent under load", &Counters::retries_sent},
      {"ravine_initials_dropped_total", "Initials dropped by limits", &Counters::initials_dropped},
      {"ravine_sessions_accepted_total", "Sessions accepted", &Counters::accepted},
      {"ravine_sessions_dialled_total", "Sessions dialled", &Counters::dialled},
      {"ravine_migrations_total", "Moves of a session to another path", &Counters::migrations},
      {"ravine_migrations_failed_total", "Moves that did not succeed", &Counters::migrations_failed},
      {"ravine_rebindings_total", "Changes of a peer's address behind NAT", &Counters::rebindings},
  };
  for (const Entry& entry : kEntries) {
    add_counter(entry.name, entry.text, [&driver, field = entry.field] {
      return static_cast<double>(driver.endpoint().counters().*field);
    });
  }
  add_gauge("ravine_sessions", "Sessions that exist now",
            [&driver] { return static_cast<double>(driver.endpoint().sessions().size()); });
  add_gauge("ravine_half_open", "Handshakes that are not complete",
            [&driver] { return static_cast<double>(driver.endpoint().counters().half_open); });
  add_counter("ravine_turns_total", "Turns of the driver's loop",
              [&driver] { return static_cast<double>(driver.counters().turns); });
  add_counter("ravine_receive_calls_total", "Receive system calls",
              [&driver] { return static_cast<double>(driver.counters().receive_calls); });
  add_counter("ravine_send_calls_total", "Send system calls",
              [&driver] { return static_cast<double>(driver.counters().send_calls); });
  add_counter("ravine_send_errors_total", "Send system calls that failed",
              [&driver] { return static_cast<double>(driver.counters().send_errors); });
}

std::string Metrics::serialize() const {
  std::vector<prometheus::MetricFamily> families;
  for (const Value& value : impl_->values) {
    prometheus::ClientMetric metric;
    for (const auto& [name, text] : value.labels) metric.label.push_back({name, text});
    (value.type == prometheus::MetricType::Counter ? metric.counter.value : metric.gauge.value) =
        value.read();
    // Metrics of one name are one family, whatever their labels.
    auto family = std::find_if(families.begin(), families.end(), [&](const prometheus::MetricFamily& known) {
      return known.name == value.name;
    });
    if (family == families.end()) {
      families.push_back({value.name, value.text, value.type, {}});
      family = std::prev(families.end());
    }
    family->metric.push_back(std::move(metric));
  }
  std::ostringstream out;
  prometheus::TextSerializer().Serialize(out, families);
  return out.str();
}

// --- server

struct MetricsServer::Impl : std::enable_shared_from_this<Impl> {
  class Client;
  ServiceContext context;
  const Metrics& metrics;
  MetricsServerOptions options;
  std::shared_ptr<Socket> listener;
  std::set<std::shared_ptr<Client>> clients;

  Impl(ServiceContext given, const Metrics& all, MetricsServerOptions wanted)
      : context(std::move(given)), metrics(all), options(std::move(wanted)) {}
  void take(Socket socket);
};

// One request, one answer, close.
class MetricsServer::Impl::Client : public std::enable_shared_from_this<Client> {
 public:
  Client(Impl& server, Socket socket)
      : server_(server), socket_(std::move(socket)), timer_(server.context.loop, kClientTimeout) {}

  void start() {
    timer_.async_wait([weak = weak_from_this()](boost::system::error_code error) {
      const auto self = weak.lock();
      if (!error && self) self->close();
    });
    wait_read();
  }
  void close() {
    const auto keep = shared_from_this();
    boost::system::error_code ignored;
    socket_.close(ignored);
    timer_.cancel();
    server_.clients.erase(keep);
  }

 private:
  void wait_read() {
    socket_.async_wait(Socket::wait_read, [weak = weak_from_this()](boost::system::error_code error) {
      const auto self = weak.lock();
      if (!error && self && self->socket_.is_open()) self->read();
    });
  }

  void read() {
    std::uint8_t chunk[4096];
    const ssize_t got = ::recv(socket_.native_handle(), chunk, sizeof chunk, MSG_DONTWAIT);
    if (got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR)) return close();
    if (got > 0) input_.insert(input_.end(), chunk, chunk + got);
    const HttpParse parse = parse_http_head(input_);
    if (parse.outcome == HttpOutcome::need_more) return wait_read();
    answer(parse);
    write();
  }

  void answer(const HttpParse& parse) {
    constexpr std::string_view kText = "text/plain; charset=utf-8";
    if (parse.outcome != HttpOutcome::ready) {
      output_ = make_http_answer(400, "Bad Request", kText, "malformed request\n");
    } else if (!is_host_allowed(parse.head, local_address(socket_).port, server_.options.hosts)) {
      output_ = make_http_answer(403, "Forbidden", kText, "this Host is not served\n");
    } else if (parse.head.method != "GET") {
      output_ = make_http_answer(405, "Method Not Allowed", kText, "GET only\n", "Allow: GET\r\n");
    } else if (parse.head.target != "/metrics") {
      output_ = make_http_answer(404, "Not Found", kText, "try /metrics\n");
    } else {
      server_.context.driver.enter();
      output_ = make_http_answer(200, "OK", "text/plain; version=0.0.4; charset=utf-8",
                                 server_.metrics.serialize());
    }
  }

  void write() {
    while (!output_.empty()) {
      const ssize_t sent =
          ::send(socket_.native_handle(), output_.data(), output_.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
      if (sent > 0) {
        output_.erase(0, static_cast<std::size_t>(sent));
      } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
        socket_.async_wait(Socket::wait_write, [weak = weak_from_this()](boost::system::error_code error) {
          const auto self = weak.lock();
          if (!error && self && self->socket_.is_open()) self->write();
        });
        return;
      } else if (errno != EINTR) {
        break;
      }
    }
    close();
  }

  Impl& server_;
  Socket socket_;
  boost::asio::steady_timer timer_;
  Bytes input_;
  std::string output_;
};

void MetricsServer::Impl::take(Socket socket) {
  if (clients.size() >= kMaxClients) return;
  auto client = std::make_shared<Client>(*this, std::move(socket));
  clients.insert(client);
  client->start();
}

MetricsServer::MetricsServer(ServiceContext context, const Metrics& metrics, MetricsServerOptions options)
    : impl_(std::make_shared<Impl>(std::move(context), metrics, std::move(options))) {}

MetricsServer::~MetricsServer() {
  stop();
}

Result<> MetricsServer::start() {
  const MetricsServerOptions& options = impl_->options;
  if (!options.listen.ip.is_loopback() && !options.allow_remote) {
    return Error{ErrorKind::invalid_argument,
                 fmt::format("metrics on {} would be readable by others: listen on 127.0.0.1",
                             options.listen.to_text())};
  }
  auto listener = listen_tcp(impl_->context.loop, options.listen);
  if (!listener) return listener.error().with_context("metrics");
  impl_->listener = std::make_shared<Socket>(std::move(*listener));
  impl_->options.hosts.push_back(options.listen.ip.to_text());
  accept_loop(impl_->context.loop, impl_->listener, [weak = std::weak_ptr(impl_)](Socket socket) {
    if (const auto impl = weak.lock()) impl->take(std::move(socket));
  });
  return {};
}

void MetricsServer::stop() {
  if (!impl_->listener) return;
  boost::system::error_code ignored;
  impl_->listener->close(ignored);
  impl_->listener.reset();
  for (const auto& client : std::set(impl_->clients)) client->close();
}

SocketAddress MetricsServer::address() const {
  return impl_->listener ? local_address(*impl_->listener) : SocketAddress{};
}

}  // namespace ravine::services
