#include "services/lab/loopback_gateways.h"

#include <fmt/format.h>
#include <stdlib.h>

#include <filesystem>

namespace ravine::services {

using gateway::security::Pairing;
using gateway::security::Role;

namespace {
const SocketAddress kAnyPort{IpAddress::v4({127, 0, 0, 1}), 0};
}

Resolver no_names() {
  return [](const std::string& host, auto done) {
    done(Error{ErrorKind::not_found, fmt::format("no address of {} is looked up here", host)});
  };
}

LoopbackGateways::LoopbackGateways(boost::asio::io_context& loop, std::string directory)
    : loop_(loop),
      directory_(std::move(directory)),
      near_store_(directory_ + "/near"),
      far_store_(directory_ + "/far") {}

LoopbackGateways::~LoopbackGateways() {
  near_.reset();
  far_.reset();
  std::error_code ignored;
  std::filesystem::remove_all(directory_, ignored);
}

std::string LoopbackGateways::near_url() const {
  return "http://" + near_->addresses().front().to_text();
}

Result<> LoopbackGateways::pair() {
  StoredPairing pairing;
  pairing.name = "bench";
  pairing.code = Pairing::make(Role::near, std::nullopt, random_);
  pairing.role = Role::far;
  pairing.made_here = true;
  if (auto added = far_store_.add(pairing); !added) return added;
  pairing.role = Role::near;
  pairing.made_here = false;
  return near_store_.add(pairing);
}

Result<> LoopbackGateways::open(LoopbackOptions options) {
  const GatewayContext context{.loop = loop_,
                               .random = random_,
                               .log = {},
                               .resolve = no_names(),
                               .make_coders = options.make_coders,
                               .control_path = {}};
  FarServiceOptions far{.listen = {kAnyPort}, .tuning = options.tuning};
  far.upstream.base = options.upstream;
  if (!options.far_line.empty()) {
    far.listen.clear();
    far.line = options.far_line;
  }
  auto far_service = FarService::start(context, far_store_, std::move(far));
  if (!far_service) return far_service.error();
  far_ = std::move(*far_service);
  NearServiceOptions near{.listen = {kAnyPort}, .tuning = options.tuning};
  near.gateway_timeout = options.gateway_timeout;
  if (options.way) {
    auto way = options.way(*far_);
    if (!way) return way.error();
    near.peers.push_back({.pairing = "bench", .peer = *way});
  } else {
    near.peers.push_back({.pairing = "bench", .peer = far_->addresses().front().to_text()});
  }
  auto near_service = NearService::start(context, near_store_, std::move(near));
  if (!near_service) return near_service.error();
  near_ = std::move(*near_service);
  return {};
}

Result<std::unique_ptr<LoopbackGateways>> LoopbackGateways::start(boost::asio::io_context& loop,
                                                                  LoopbackOptions options) {
  std::string name = (std::filesystem::temp_directory_path() / "ravine-bench.XXXXXX").string();
  if (::mkdtemp(name.data()) == nullptr)
    return Error{ErrorKind::io, "cannot make a directory for the gateways' state; check TMPDIR"};
  std::unique_ptr<LoopbackGateways> made(new LoopbackGateways(loop, name));
  if (auto paired = made->pair(); !paired) return paired.error();
  if (auto opened = made->open(std::move(options)); !opened) return opened.error();
  return made;
}

}  // namespace ravine::services
