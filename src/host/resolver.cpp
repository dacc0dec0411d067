#include "host/resolver.h"

#include <fmt/format.h>

#include <algorithm>
#include <boost/asio/ip/udp.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <set>

#include "host/sockaddr.h"

namespace ravine::host {
namespace {

constexpr std::size_t kMaxNameBytes = 253;  // RFC 1035 §2.3.4, in presentation form

SocketAddress from_asio(const boost::asio::ip::udp::endpoint& endpoint) {
  const auto address = endpoint.address();
  if (address.is_v4()) return {IpAddress::v4(address.to_v4().to_bytes()), endpoint.port()};
  const auto v6 = address.to_v6();
  return {IpAddress::v6(v6.to_bytes(), static_cast<std::uint32_t>(v6.scope_id())), endpoint.port()};
}

// One look-up. Whoever comes first, the answer or the timer, makes the call.
struct Lookup {
  explicit Lookup(boost::asio::io_context& loop) : resolver(loop), timer(loop) {}
  boost::asio::ip::udp::resolver resolver;
  boost::asio::steady_timer timer;
  Resolver::OnResolved on_resolved;
};

Result<std::vector<SocketAddress>> to_addresses(const std::string& host,
                                                const boost::system::error_code& error,
                                                const boost::asio::ip::udp::resolver::results_type& results) {
  if (error)
    return Error{ErrorKind::not_found,
                 fmt::format("look up {}: {}; check the name and this machine's DNS", host, error.message())};
  std::vector<SocketAddress> addresses;
  for (const auto& entry : results) {
    const SocketAddress address = from_asio(entry.endpoint());
    if (std::find(addresses.begin(), addresses.end(), address) == addresses.end())
      addresses.push_back(address);
  }
  if (addresses.empty())
    return Error{ErrorKind::not_found, fmt::format("look up {}: it has no address", host)};
  return addresses;
}

}  // namespace

struct Resolver::Impl : std::enable_shared_from_this<Impl> {
  explicit Impl(boost::asio::io_context& io) : loop(io) {}

  void finish(const std::shared_ptr<Lookup>& lookup, Result<std::vector<SocketAddress>> outcome) {
    if (pending.erase(lookup) == 0) return;
    lookup->timer.cancel();
    lookup->resolver.cancel();
    auto call = std::move(lookup->on_resolved);
    call(std::move(outcome));
  }

  void answer_later(OnResolved on_resolved, Result<std::vector<SocketAddress>> outcome) {
    boost::asio::post(loop, [self = shared_from_this(), on_resolved = std::move(on_resolved),
                             outcome = std::move(outcome)] {
      if (!self->stopped) on_resolved(outcome);
    });
  }

  boost::asio::io_context& loop;
  std::set<std::shared_ptr<Lookup>> pending;
  bool stopped = false;
};

Resolver::Resolver(boost::asio::io_context& loop) : impl_(std::make_shared<Impl>(loop)) {}

Resolver::~Resolver() {
  impl_->stopped = true;
  auto pending = std::move(impl_->pending);
  impl_->pending.clear();
  for (const auto& lookup : pending) {
    lookup->timer.cancel();
    lookup->resolver.cancel();
    lookup->on_resolved = nullptr;
  }
}

void Resolver::resolve(const std::string& host, std::uint16_t port, OnResolved on_resolved,
                       Duration timeout) {
  if (const auto literal = IpAddress::parse(host))
    return impl_->answer_later(std::move(on_resolved), std::vector<SocketAddress>{{*literal, port}});
  if (host.empty() || host.size() > kMaxNameBytes || host.find('\0') != std::string::npos)
    return impl_->answer_later(std::move(on_resolved),
                               Error{ErrorKind::invalid_argument, "look up: not a host name"});
  if (impl_->pending.size() >= kMaxPending)
    return impl_->answer_later(std::move(on_resolved),
                               Error{ErrorKind::limit_reached, "look up: too many names at once; try again"});
  auto lookup = std::make_shared<Lookup>(impl_->loop);
  lookup->on_resolved = std::move(on_resolved);
  impl_->pending.insert(lookup);
  lookup->timer.expires_after(timeout);
  lookup->timer.async_wait([self = impl_, lookup, host](boost::system::error_code error) {
    if (error) return;
    self->finish(lookup,
                 Error{ErrorKind::timed_out, fmt::format("look up {}: no answer from DNS in time", host)});
  });
  lookup->resolver.async_resolve(
      host, fmt::format("{}", port), boost::asio::ip::resolver_base::numeric_service,
      [self = impl_, lookup, host](const boost::system::error_code& error, const auto& results) {
        self->finish(lookup, to_addresses(host, error, results));
      });
}

}  // namespace ravine::host
