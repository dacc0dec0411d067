// The control socket's methods. Each answers once; long ones stop when their client leaves.
#include <fmt/format.h>

#include <boost/asio/post.hpp>

#include "node/ca_methods.h"
#include "node/node_impl.h"
#include "services/pump.h"

namespace ravine::node {

namespace json = boost::json;
using services::RpcReply;

namespace {

Result<services::Exposure> exposure_from(const json::object& params) {
  auto port = number_param(params, "port", 1, 65535);
  if (!port) return port.error();
  auto to = text_param(params, "to");
  if (!to) return to.error();
  auto allow = texts_param(params, "allow");
  if (!allow) return allow.error();
  return services::Exposure{
      .protocol = flag_param(params, "udp") ? services::Protocol::udp : services::Protocol::tcp,
      .port = static_cast<std::uint16_t>(*port),
      .to = *to,
      .allow = std::move(*allow)};
}

json::object report_json(const ReloadReport& report) {
  return {{"changed", json::array(report.changed.begin(), report.changed.end())},
          {"needs_restart", json::array(report.needs_restart.begin(), report.needs_restart.end())}};
}

// Waits for the answer to one ping: the path_state event with a fresh round trip.
class PingWait final : public runtime::SessionObserver, public std::enable_shared_from_this<PingWait> {
 public:
  PingWait(runtime::Driver& driver, boost::asio::io_context& loop, RpcReply reply)
      : driver_(driver), timer_(loop), reply_(std::move(reply)) {}

  void start(session::Session& session, std::uint64_t nonce) {
    id_ = session.id();
    path_ = session.current_path().id;
    self_ = shared_from_this();
    driver_.add_observer(this);
    sent_ = driver_.enter();
    session.ping(sent_, path_, nonce);
    driver_.touch();
    timer_.expires_after(3s);
    timer_.async_wait([self = self_](boost::system::error_code code) {
      if (!code) self->finish(Error{ErrorKind::timed_out, "no answer within 3 s; see \"ravine sessions\""});
    });
  }

  void on_path_state(session::Session& session, session::PathId path) override {
    if (session.id() != id_ || path != path_) return;
    const auto info = session.current_path();
    const Duration rtt = driver_.now() - sent_;
    json::object out{{"name", session.info().peer.name},
                     {"id", session.info().peer.id.to_text()},
                     {"rtt_ns", rtt.count()},
                     {"smoothed_rtt_ns", info.smoothed_rtt.count()},
                     {"path", info.kind == session::PathKind::direct    ? "direct"
                              : info.kind == session::PathKind::relayed ? "relayed"
                                                                        : "circuit"},
                     {"remote", info.route.remote.to_text()}};
    finish(std::move(out));
  }

  void on_closed(session::SessionId id, const session::SessionInfo&,
                 const session::CloseReason& reason) override {
    if (id == id_) finish(Error{ErrorKind::closed, fmt::format("the session ended: {}", reason.text)});
  }

 private:
  void finish(Result<json::object> outcome) {
    if (!self_) return;
    if (outcome) {
      reply_.result(std::move(*outcome));
    } else {
      reply_.error(outcome.error());
    }
    timer_.cancel();
    // Not removed here: the driver may be walking its observers.
    boost::asio::post(timer_.get_executor(),
                      [keep = std::exchange(self_, nullptr)] { keep->driver_.remove_observer(keep.get()); });
  }

  runtime::Driver& driver_;
  boost::asio::steady_timer timer_;
  RpcReply reply_;
  std::shared_ptr<PingWait> self_;
  session::SessionId id_;
  session::PathId path_ = 0;
  Instant sent_;
};

}  // namespace

void Node::Impl::add_methods() {
  control->add_method("status", [this](const json::object&, RpcReply reply) {
    driver->enter();
    reply.result(status());
  });
  control->add_method("sessions", [this](const json::object&, RpcReply reply) {
    driver->enter();
    reply.result(json::object{{"sessions", sessions_json()}});
  });
  control->add_method("peers", [this](const json::object&, RpcReply reply) {
    reply.result(json::object{{"peers", peers_json()}});
  });
  control->add_method("networks", [this](const json::object&, RpcReply reply) {
    reply.result(json::object{{"networks", networks_json()}});
  });
  control->add_method("reload", [this](const json::object&, RpcReply reply) {
    auto report = reload();
    if (!report) return reply.error(report.error());
    reply.result(report_json(*report));
  });
  control->add_method("shutdown", [this](const json::object&, RpcReply reply) {
    reply.result(json::object{{"stopping", true}});
    if (options.on_shutdown_request) {
      boost::asio::post(loop, options.on_shutdown_request);
    } else {
      log.warning("asked to stop, but the program that runs this node does not stop on request");
    }
  });
  control->add_method("log.level", [this](const json::object& params, RpcReply reply) {
    if (params.contains("level")) {
      const Result<> set = set_log_level(params);
      if (!set) return reply.error(set.error());
    }
    json::object out{{"components", json::object{}}};
    if (options.log_levels) {
      for (const auto& [component, level] : options.log_levels()) {
        if (component.empty()) {
          out["level"] = host::to_text(level);
        } else {
          out["components"].as_object()[component] = host::to_text(level);
        }
      }
    }
    reply.result(out);
  });
  control->add_method("renew", [this](const json::object& params, RpcReply reply) {
    const std::string name = text_param_or(params, "network", "");
    renew_now(name, [this, name, reply](Result<> renewed) {
      if (!renewed) return reply.error(renewed.error());
      json::array names;
      for (const auto& network : networks) {
        if (name.empty() ? !network->member.is_pinned() : network->member.name == name)
          names.push_back({{"network", network->member.name},
                           {"directory", network->member.directory},
                           {"not_after_unix", network->member.leaf().not_after.seconds}});
      }
      reply.result(names.at(0));
    });
  });
  add_service_methods();
  add_peer_methods();
  add_authority_methods();
}

Result<> Node::Impl::set_log_level(const json::object& params) {
  const auto text = text_param(params, "level");
  if (!text) return text.error();
  const std::string component = text_param_or(params, "component", "");
  const auto level = host::parse_log_level(*text);
  const bool follows = *text == "default" && !component.empty();
  if (!level && !follows) {
    return Error{ErrorKind::invalid_argument,
                 fmt::format("\"{}\" is no log level; use trace, debug, info, warning, error or off, or, for "
                             "a component, default",
                             *text)};
  }
  return options.set_log_level ? options.set_log_level(component, level) : Result<>{};
}

void Node::Impl::add_service_methods() {
  control->add_method("exposes", [this](const json::object&, RpcReply reply) {
    reply.result(json::object{{"exposures", exposures_json()}});
  });
  control->add_method("forwards", [this](const json::object&, RpcReply reply) {
    reply.result(json::object{{"forwards", forwards_json()}});
  });
  control->add_method("expose", [this](const json::object& params, RpcReply reply) {
    auto exposure = exposure_from(params);
    if (!exposure) return reply.error(exposure.error());
    if (auto added = exposes->add(*exposure); !added) return reply.error(added.error());
    reply.result(json::object{{"port", exposure->port}, {"protocol", protocol_text(exposure->protocol)}});
  });
  control->add_method("unexpose", [this](const json::object& params, RpcReply reply) {
    auto port = number_param(params, "port", 1, 65535);
    if (!port) return reply.error(port.error());
    const auto protocol = flag_param(params, "udp") ? services::Protocol::udp : services::Protocol::tcp;
    driver->enter();
    if (!exposes->remove(protocol, static_cast<std::uint16_t>(*port))) {
      return reply.error(Error{ErrorKind::not_found,
                               fmt::format("{} port {} is not exposed; \"ravine expose\" lists what is",
                                           protocol_text(protocol), *port)});
    }
    driver->touch();
    reply.result(json::object{{"port", *port}});
  });
}

void Node::Impl::add_peer_methods() {
  control->add_method("ping", [this](const json::object& params, RpcReply reply) {
    auto peer = text_param(params, "peer");
    if (!peer) return reply.error(peer.error());
    driver->enter();
    connector->connect(*peer, [this, reply](Result<session::SessionId> session) {
      if (!session) return reply.error(session.error());
      session::Session* live = driver->endpoint().find(*session);
      if (live == nullptr)
        return reply.error(Error{ErrorKind::closed, "the session ended at once; try again"});
      std::make_shared<PingWait>(*driver, loop, reply)->start(*live, random.next_u64());
    });
    driver->touch();
  });
  control->add_method("connect", [this](const json::object& params, RpcReply reply) {
    auto host = text_param(params, "host");
    if (!host) return reply.error(host.error());
    auto port = number_param(params, "port", 1, 65535);
    if (!port) return reply.error(port.error());
    driver->enter();
    auto handle = std::make_shared<services::Pending>();
    reply.on_abandoned([handle] { handle->reset(); });
    *handle = tunnels->open(
        fuse_host(*host), static_cast<std::uint16_t>(*port),
        [this, reply, handle](Result<services::OpenedStream> opened) {
          if (!opened) return reply.error(opened.error());
          reply.upgrade(
              json::object{{"open", true}}, [this, stream = *opened](services::Socket socket, Bytes first) {
                driver->enter();
                session::Session* live = driver->endpoint().find(stream.session);
                if (live == nullptr) return;
                services::start_pump(tunnels->context(), *live, stream.stream, std::move(socket),
                                     {.first = std::move(first), .counters = &tunnels->pump_counters()});
                driver->touch();
              });
        });
    driver->touch();
  });
  add_bench_method();
  add_gateway_methods();
}

void Node::Impl::add_bench_method() {
  control->add_method("bench", [this](const json::object& params, RpcReply reply) {
    auto peer = text_param(params, "peer");
    if (!peer) return reply.error(peer.error());
    services::BenchOptions wanted;
    if (params.contains("seconds")) {
      auto seconds = number_param(params, "seconds", 1, 600);
      if (!seconds) return reply.error(seconds.error());
      wanted.upload = wanted.download = std::chrono::seconds(*seconds);
    }
    driver->enter();
    auto handle = std::make_shared<services::Pending>();
    reply.on_abandoned([handle] { handle->reset(); });
    connector->connect(*peer, [this, reply, wanted, handle](Result<session::SessionId> session) {
      if (!session) return reply.error(session.error());
      *handle = services::run_bench(
          *router, *session, wanted,
          [reply](const services::BenchProgress& progress) {
            reply.notify("bench.progress", json::object{{"phase", progress.phase},
                                                        {"elapsed_ns", progress.elapsed.count()},
                                                        {"bytes", progress.bytes},
                                                        {"bits_per_second", progress.bits_per_second}});
          },
          [reply, handle](Result<services::BenchResult> result) {
            if (!result) return reply.error(result.error());
            reply.result(json::object{{"latency_p50_ns", result->latency_p50.count()},
                                      {"latency_p99_ns", result->latency_p99.count()},
                                      {"latency_min_ns", result->latency_min.count()},
                                      {"echoes", result->echoes},
                                      {"upload_bits_per_second", result->upload_bits_per_second},
                                      {"download_bits_per_second", result->download_bits_per_second},
                                      {"upload_bytes", result->upload_bytes},
                                      {"download_bytes", result->download_bytes}});
          });
    });
    driver->touch();
  });
}

void Node::Impl::add_authority_methods() {
  const auto invite = [this](identity::CodeKind kind) {
    return [this, kind](const json::object& params, RpcReply reply) {
      const std::string name = text_param_or(params, "name", "");
      auto groups = texts_param(params, "groups");
      if (!groups) return reply.error(groups.error());
      auto lifetime = number_param(params, "lifetime_s", 60, 30 * 86400);
      if (!lifetime) return reply.error(lifetime.error());
      auto made = make_invite(kind, name, std::move(*groups), std::chrono::seconds(*lifetime));
      if (!made) return reply.error(made.error());
      json::array addresses;
      for (const HostPort& address : made->addresses) {
        addresses.emplace_back(address.host.find(':') != std::string::npos
                                   ? fmt::format("[{}]:{}", address.host, address.port)
                                   : fmt::format("{}:{}", address.host, address.port));
      }
      reply.result(
          json::object{{"code", made->to_text()},
                       {"name", name},
                       {"addresses", std::move(addresses)},
                       {"expires_unix", (clock->unix_time() + std::chrono::seconds(*lifetime)).seconds}});
    };
  };
  control->add_method("invite.create", invite(identity::CodeKind::invite));
  control->add_method("pair.create", invite(identity::CodeKind::pair));
  control->add_method("invite.list", [this](const json::object&, RpcReply reply) {
    json::array rows;
    for (const identity::PendingInvite& pending : invites.pending()) {
      rows.push_back({{"name", pending.name},
                      {"kind", pending.kind == identity::CodeKind::invite ? "invite" : "pair"},
                      {"groups", json::array(pending.groups.begin(), pending.groups.end())},
                      {"expires_unix", pending.expires.seconds},
                      {"used", pending.used_by.has_value()}});
    }
    reply.result(json::object{{"invites", std::move(rows)}});
  });
  control->add_method("invite.delete", [this](const json::object& params, RpcReply reply) {
    auto name = text_param(params, "name");
    if (!name) return reply.error(name.error());
    const std::size_t count = invites.withdraw(*name);
    if (count == 0) {
      return reply.error(
          Error{ErrorKind::not_found, fmt::format("no invitation for \"{}\" is open; see \"ravine invite "
                                                  "--list\"",
                                                  *name)});
    }
    if (auto saved = save_invites(state, invites); !saved) return reply.error(saved.error());
    sync_join_names();
    reply.result(json::object{{"withdrawn", count}});
  });
  for (const std::string_view method : ca_method_names()) {
    control->add_method(std::string(method), [this, method](const json::object& params, RpcReply reply) {
      if (!ca) {
        return reply.error(
            Error{ErrorKind::not_found,
                  "this node has no authority; run this on the machine where \"ravine ca init\" was run"});
      }
      driver->enter();
      auto result = call_ca(*ca, method, params, clock->unix_time(), random);
      if (!result) return reply.error(result.error());
      if (ca_method_changes_members(method)) {
        if (auto updated = after_revocation(); !updated) return reply.error(updated.error());
      }
      reply.result(std::move(*result));
    });
  }
}

}  // namespace ravine::node
