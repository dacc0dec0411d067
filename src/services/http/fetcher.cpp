#include "services/http/fetcher.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <unordered_map>
#include <utility>

#include "services/http/http_text.h"

namespace ravine::services::http {
namespace {

using gateway::core::HttpRequest;
using gateway::core::HttpResponse;
using Clock = std::chrono::steady_clock;

constexpr std::array<std::uint16_t, 2> kDefaultPorts{443, 8448};  // HTTPS, and Matrix between servers

struct Allowed {
  std::string host;        // in lower case
  std::uint16_t port = 0;  // 0: the default ones
};

bool is_redirect(std::uint16_t status) {
  return status == 301 || status == 302 || status == 303 || status == 307 || status == 308;
}

bool is_credential(std::string_view name) {
  return equals_ignoring_case(name, "authorization") || equals_ignoring_case(name, "cookie");
}

struct Fetch {
  Url url;
  HttpRequest request;
  Clock::time_point until;
  std::size_t redirects_left = 0;
  Fetcher::Done done;
  UpstreamClient* client = nullptr;  // at work on it
};

}  // namespace

struct Fetcher::Impl : std::enable_shared_from_this<Impl> {
  Impl(boost::asio::io_context& io, FetcherOptions given, Resolver look_up, Log sink)
      : loop(io), options(std::move(given)), resolve(std::move(look_up)), log(sink) {}

  bool is_allowed(const Url& url) const;
  Result<UpstreamClient*> client_for(const Url& url);
  Result<> send(UpstreamId id, const std::shared_ptr<Fetch>& fetch);
  void handle(UpstreamId id, UpstreamClient::Outcome outcome);
  bool follow(UpstreamId id, const std::shared_ptr<Fetch>& fetch, const HttpResponse& response);

  boost::asio::io_context& loop;
  FetcherOptions options;
  Resolver resolve;
  Log log;
  std::vector<Allowed> allowed;
  std::map<std::string, std::unique_ptr<UpstreamClient>> clients;  // by origin; as many as are allowed
  std::unordered_map<UpstreamId, std::shared_ptr<Fetch>> fetches;
};

bool Fetcher::Impl::is_allowed(const Url& url) const {
  if (!url.https && !options.allow_http) return false;
  const std::string host = to_lower(url.host);
  const bool default_port =
      std::find(kDefaultPorts.begin(), kDefaultPorts.end(), url.port) != kDefaultPorts.end() ||
      (!url.https && url.port == 80);
  return std::any_of(allowed.begin(), allowed.end(), [&](const Allowed& entry) {
    return entry.host == host && (entry.port == url.port || (entry.port == 0 && default_port));
  });
}

Result<UpstreamClient*> Fetcher::Impl::client_for(const Url& url) {
  const bool v6 = url.host.find(':') != std::string::npos;
  const std::string origin = fmt::format("{}://{}{}{}:{}", url.https ? "https" : "http", v6 ? "[" : "",
                                         to_lower(url.host), v6 ? "]" : "", url.port);
  const auto found = clients.find(origin);
  if (found != clients.end()) return found->second.get();
  auto made = UpstreamClient::make(loop,
                                   {.base = origin,
                                    .host_header = url.authority,
                                    .tls = options.tls,
                                    .max_connections = options.max_connections,
                                    .max_body = options.max_body},
                                   resolve, log);
  if (!made) return made.error();
  return clients.emplace(origin, std::move(*made)).first->second.get();
}

Result<> Fetcher::Impl::send(UpstreamId id, const std::shared_ptr<Fetch>& fetch) {
  auto client = client_for(fetch->url);
  if (!client) return client.error();
  fetch->client = *client;
  HttpRequest request = fetch->request;
  request.target = fetch->url.target;
  fetches.insert_or_assign(id, fetch);
  const auto left = std::max(fetch->until - Clock::now(), Clock::duration::zero());
  fetch->client->send(id, std::move(request), std::chrono::duration_cast<Duration>(left), false,
                      [weak = weak_from_this()](UpstreamId done, UpstreamClient::Outcome outcome) {
                        if (const auto self = weak.lock()) self->handle(done, std::move(outcome));
                      });
  return {};
}

void Fetcher::Impl::handle(UpstreamId id, UpstreamClient::Outcome outcome) {
  const auto found = fetches.find(id);
  if (found == fetches.end()) return;
  const std::shared_ptr<Fetch> fetch = found->second;
  fetches.erase(found);
  const auto* response = std::get_if<HttpResponse>(&outcome);
  if (response != nullptr && follow(id, fetch, *response)) return;
  fetch->done(id, std::move(outcome));
}

// Whether the fetch goes on elsewhere.
bool Fetcher::Impl::follow(UpstreamId id, const std::shared_ptr<Fetch>& fetch, const HttpResponse& response) {
  const std::string& method = fetch->request.method;
  if (!is_redirect(response.status) || fetch->redirects_left == 0 || (method != "GET" && method != "HEAD"))
    return false;
  std::string location(gateway::core::header_value(response.headers, "location"));
  location.resize(std::min(location.find('#'), location.size()));
  if (location.starts_with('/') && !location.starts_with("//"))
    location.insert(0, (fetch->url.https ? "https://" : "http://") + fetch->url.authority);
  auto url = parse_url(location);
  if (!url || !is_allowed(*url) || (fetch->url.https && !url->https)) return false;
  if (!equals_ignoring_case(url->host, fetch->url.host) || url->port != fetch->url.port)
    std::erase_if(fetch->request.headers, [](const auto& header) { return is_credential(header.first); });
  --fetch->redirects_left;
  fetch->url = std::move(*url);
  return send(id, fetch).ok();
}

Fetcher::Fetcher(std::shared_ptr<Impl> impl) : impl_(std::move(impl)) {}
Fetcher::~Fetcher() {
  impl_->fetches.clear();
  impl_->clients.clear();
}

Result<std::unique_ptr<Fetcher>> Fetcher::make(boost::asio::io_context& loop, FetcherOptions options,
                                               Resolver resolve, Log log) {
  std::vector<Allowed> allowed;
  for (const std::string& entry : options.allowed) {
    const auto url = parse_url("https://" + entry);
    if (!url || url->authority != entry)
      return Error{ErrorKind::invalid_argument,
                   fmt::format("allowed host '{}': expected HOST or HOST:PORT", entry)};
    const bool has_port = HostPort::parse(entry).has_value();
    allowed.push_back({to_lower(url->host), has_port ? url->port : std::uint16_t{0}});
  }
  // An authority's file that cannot be read is told now, not at the first fetch.
  auto probe = UpstreamClient::make(loop, {.base = "https://localhost", .tls = options.tls}, resolve, log);
  if (!probe) return probe.error();
  auto impl = std::make_shared<Impl>(loop, std::move(options), std::move(resolve), log);
  impl->allowed = std::move(allowed);
  return std::unique_ptr<Fetcher>(new Fetcher(std::move(impl)));
}

Result<> Fetcher::fetch(UpstreamId id, const std::string& url, HttpRequest request, Duration timeout,
                        Done done) {
  const auto parsed = parse_url(url);
  if (!parsed)
    return Error{ErrorKind::invalid_argument, fmt::format("'{}' is no absolute http or https URL", url)};
  if (!impl_->is_allowed(*parsed))
    return Error{
        ErrorKind::refused,
        fmt::format("{} is not among the hosts that may be reached: add it to the list", parsed->authority)};
  ensure(!impl_->fetches.contains(id));
  auto fetch = std::make_shared<Fetch>(
      Fetch{.url = *parsed,
            .request = std::move(request),
            .until = Clock::now() + std::chrono::duration_cast<Clock::duration>(timeout),
            .redirects_left = impl_->options.max_redirects,
            .done = std::move(done)});
  return impl_->send(id, fetch);
}

void Fetcher::cancel(UpstreamId id) {
  const auto found = impl_->fetches.find(id);
  if (found == impl_->fetches.end()) return;
  found->second->client->cancel(id);
  impl_->fetches.erase(id);
}

}  // namespace ravine::services::http
