// socks_bulk: what a program gets that talks TCP to the proxy of one node, through a session, to a TCP server
// behind the other node. Client program and near node share one core, far node and server the other. Beside
// it dante, a SOCKS5 server without encryption, when it is installed.
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <fstream>
#include <vector>

#include "bench/families.h"
#include "bench/loopback_node.h"
#include "bench/sockets.h"
#include "services/expose.h"
#include "services/proxy.h"

namespace ravine::bench {

namespace {

constexpr std::uint16_t kOverlayPort = 9;  // discard (RFC 863)
constexpr std::size_t kWrite = 64 * 1024;
constexpr std::string_view kPeerHost = "server.fuse";

enum Side : std::size_t { kFar = 0, kNear = 1, kSink = 2, kSource = 3 };

// Everything that a node has between driver and proxy.
struct ServiceStack {
  ServiceStack(LoopbackNode& node, session::NetworkId network)
      : context{node.loop(), node.driver(), Log(),
                [](const std::string&, std::function<void(services::Addresses)> done) {
                  done(Error{ErrorKind::not_found, "benchmarks look no names up"});
                }},
        router(context),
        flows(node.driver()),
        connector(context, directory),
        tunnels(router, connector, flows) {
    directory.add_network(network, "bench", IpAddress::v6({0xfd, 0xcc}));
  }
  services::ServiceContext context;
  services::PeerDirectory directory;
  services::StreamRouter router;
  services::FlowTable flows;
  services::PeerConnector connector;
  services::Tunnels tunnels;
};

Result<> run_far(SharedState& shared, SideState& mine, const Members& members, std::uint16_t target) {
  LoopbackNode node(shared, mine, members.server, {});
  if (Result<> opened = node.open(); !opened.ok()) return opened;
  ServiceStack stack(node, node.network());
  services::ExposeService expose(stack.router, stack.flows);
  services::Exposure exposure;
  exposure.port = kOverlayPort;
  exposure.to = fmt::format("127.0.0.1:{}", target);
  exposure.allow = {"*"};
  if (Result<> added = expose.add(exposure); !added.ok()) return added;
  mine.ready = true;
  node.run();
  return node.outcome();
}

Result<> run_near(SharedState& shared, SideState& mine, const Members& members) {
  LoopbackNode node(shared, mine, members.client, {});
  if (Result<> opened = node.open(); !opened.ok()) return opened;
  ServiceStack stack(node, node.network());
  services::StaticPeer peer;
  peer.network = node.network();
  peer.name = "server";
  peer.addresses = {{.host = "127.0.0.1", .port = shared.sides[kFar].port}};
  if (Result<> added = stack.directory.add_static(peer); !added.ok()) return added;
  services::ProxyServer proxy(stack.tunnels,
                              {.listen = {IpAddress::v4({127, 0, 0, 1}), 0}, .credentials = {}});
  if (Result<> started = proxy.start(); !started.ok()) return started;
  mine.port = proxy.address().port;
  mine.ready = true;
  node.run();
  return node.outcome();
}

Result<> run_sink(SharedState& shared, SideState& mine, const Socket& listener) {
  mine.ready = true;
  const Socket socket = listener.accepted();
  if (!socket.valid()) return Error{ErrorKind::io, "nobody connected to the server behind the proxy"};
  std::vector<std::uint8_t> buffer(kWrite * 4);
  while (!shared.stop) {
    const ssize_t got = read(socket.fd(), buffer.data(), buffer.size());
    if (got <= 0) break;
    mine.bytes.fetch_add(static_cast<std::uint64_t>(got), std::memory_order_relaxed);
  }
  return {};
}

bool read_exactly(const Socket& socket, std::size_t size) {
  std::array<std::uint8_t, 64> buffer;
  return recv(socket.fd(), buffer.data(), std::min(size, buffer.size()), MSG_WAITALL) ==
         static_cast<ssize_t>(size);
}

// RFC 1928: no authentication, CONNECT. Both servers answer with an IPv4 address.
Result<> ask_socks(const Socket& socket, std::string_view host, std::uint16_t port) {
  constexpr std::array<std::uint8_t, 3> kGreeting = {5, 1, 0};
  ByteWriter request;
  request.write_u32(0x05010003);
  request.write_u8(static_cast<std::uint8_t>(host.size()));
  request.write(as_bytes(host));
  request.write_u16(port);
  send(socket.fd(), kGreeting.data(), kGreeting.size(), 0);
  if (!read_exactly(socket, 2)) return Error{ErrorKind::io, "the SOCKS server did not take the greeting"};
  send(socket.fd(), request.view().data(), request.size(), 0);
  std::array<std::uint8_t, 4> head;
  if (recv(socket.fd(), head.data(), head.size(), MSG_WAITALL) != 4) {
    return Error{ErrorKind::io, "the SOCKS server gave no answer"};
  }
  if (head[1] != 0) return Error{ErrorKind::refused, fmt::format("the SOCKS server answered {}", head[1])};
  return read_exactly(socket, head[3] == 4 ? 18 : 6) ? Result<>()
                                                     : Error{ErrorKind::io, "a SOCKS answer was cut short"};
}

Result<> run_source(SharedState& shared, SideState& mine, std::uint16_t proxy, std::string_view host,
                    std::uint16_t port) {
  Result<Socket> socket = Socket::connected(SOCK_STREAM, proxy);
  if (!socket.ok()) return socket.error();
  if (Result<> asked = ask_socks(*socket, host, port); !asked.ok()) return asked;
  mine.ready = true;
  const std::vector<std::uint8_t> block(kWrite, 0x5a);
  while (!shared.stop && send(socket->fd(), block.data(), block.size(), MSG_NOSIGNAL) > 0) {
  }
  return {};
}

struct SocksFigures {
  double gigabits = 0, near_ns = 0, far_ns = 0, program_seconds_per_gb = 0;
};

Result<SocksFigures> measure_ravine(const Members& members, double seconds) {
  Result<Socket> listener = Socket::bound(SOCK_STREAM);
  if (!listener.ok()) return listener.error();
  const std::uint16_t target = listener->port();
  SideGroup group;
  const auto start = [&](std::string_view name, int core, const SideGroup::Body& body) {
    return group.start(name, core, body, 10s);
  };
  Result<> up = start("far node", kServerCore, [&](SharedState& shared, SideState& mine) {
    return run_far(shared, mine, members, target);
  });
  if (up.ok()) {
    up = start("near node", kClientCore,
               [&](SharedState& shared, SideState& mine) { return run_near(shared, mine, members); });
  }
  if (up.ok()) {
    up = start("server", kServerCore,
               [&](SharedState& shared, SideState& mine) { return run_sink(shared, mine, *listener); });
  }
  if (up.ok()) {
    up = start("client", kClientCore, [&](SharedState& shared, SideState& mine) {
      return run_source(shared, mine, shared.sides[kNear].port, kPeerHost, kOverlayPort);
    });
  }
  if (!up.ok()) return up.error();
  if (Result<> warm = group.sleep(0.7); !warm.ok()) return warm.error();
  const Result<Window> window = group.measure(seconds);
  if (!window.ok()) return window.error();
  const auto& sides = window->sides;
  const double bytes = std::max(sides[kSink].bytes, 1.0);
  return SocksFigures{
      .gigabits = bytes * 8e-9 / window->seconds,
      .near_ns = sides[kNear].cpu_seconds * 1e9 / std::max(sides[kNear].packets_sent, 1.0),
      .far_ns = sides[kFar].cpu_seconds * 1e9 / std::max(sides[kFar].packets_received, 1.0),
      .program_seconds_per_gb = (sides[kNear].cpu_seconds + sides[kFar].cpu_seconds) * 1e9 / bytes};
}

// --- dante

constexpr const char* kDante = "/usr/sbin/danted";

bool has_dante() {
  return access(kDante, X_OK) == 0;
}

Result<> run_dante(SharedState& shared, SideState& mine, std::uint16_t port) {
  const std::string path = fmt::format("/tmp/ravine-bench-{}.conf", getpid());
  std::ofstream(path) << fmt::format(
      "logoutput: /dev/null\ninternal: 127.0.0.1 port = {}\nexternal: 127.0.0.1\nclientmethod: none\n"
      "socksmethod: none\nuser.privileged: root\nuser.unprivileged: nobody\n"
      "client pass {{ from: 127.0.0.0/8 to: 0.0.0.0/0 }}\nsocks pass {{ from: 127.0.0.0/8 to: 0.0.0.0/0 }}\n",
      port);
  const std::string pid_file = path + ".pid";
  std::array<const char*, 6> arguments = {kDante, "-f", path.c_str(), "-p", pid_file.c_str(), nullptr};
  pid_t pid = -1;
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, "/dev/null", O_WRONLY, 0);
  posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
  const int code =
      posix_spawn(&pid, kDante, &actions, nullptr, const_cast<char**>(arguments.data()), environ);
  posix_spawn_file_actions_destroy(&actions);
  Result<> out = code == 0 ? Result<>() : Error{ErrorKind::io, "cannot start danted"};
  for (int waited = 0; code == 0 && !mine.ready; ++waited) {
    if (Socket::connected(SOCK_STREAM, port).ok()) mine.ready = true;
    if (waited > 300) {
      out = Error{ErrorKind::timed_out, "danted does not listen"};
      break;
    }
    usleep(10'000);
  }
  while (mine.ready && !shared.stop) usleep(10'000);
  if (code == 0) {
    kill(pid, SIGTERM);
    waitpid(pid, nullptr, 0);
  }
  unlink(path.c_str());
  unlink(pid_file.c_str());
  return out;
}

Result<double> measure_dante(double seconds) {
  Result<Socket> listener = Socket::bound(SOCK_STREAM);
  if (!listener.ok()) return listener.error();
  Result<Socket> placeholder = Socket::bound(SOCK_STREAM);
  if (!placeholder.ok()) return placeholder.error();
  const std::uint16_t target = listener->port(), port = placeholder->port();
  *placeholder = Socket();  // free again, for dante
  SideGroup group;
  Result<> up = group.start(
      "dante", kAnyCore, [&](SharedState& shared, SideState& mine) { return run_dante(shared, mine, port); },
      10s);
  if (up.ok()) {
    up = group.start(
        "server", kServerCore,
        [&](SharedState& shared, SideState& mine) { return run_sink(shared, mine, *listener); }, 10s);
  }
  if (up.ok()) {
    up = group.start(
        "client", kClientCore,
        [&](SharedState& shared, SideState& mine) {
          return run_source(shared, mine, port, "127.0.0.1", target);
        },
        10s);
  }
  if (!up.ok()) return up.error();
  if (Result<> warm = group.sleep(0.5); !warm.ok()) return warm.error();
  const Result<Window> window = group.measure(seconds);
  if (!window.ok()) return window.error();
  return window->sides[1].bytes * 8e-9 / window->seconds;
}

}  // namespace

Result<Report> run_socks_bulk(const RunOptions& options) {
  const Result<Members> members = make_members();
  if (!members.ok()) return members.error();
  Report report;
  if (has_dante()) {
    report.ceiling_name = "dante, SOCKS5 in plain text on both cores";
  } else {
    report.notes = {{"ceiling_note", "dante is not installed (apt-get install dante-server)"}};
  }
  std::vector<double> near_ns, far_ns, per_gb;
  for (unsigned run = 0; run < options.runs; ++run) {
    if (options.progress) options.progress(fmt::format("run {} of {}", run + 1, options.runs));
    if (has_dante()) {
      const Result<double> dante = measure_dante(options.seconds / 2);
      if (!dante.ok()) return dante.error();
      report.ceilings.push_back(*dante);
    }
    const Result<SocksFigures> figures = measure_ravine(*members, options.seconds);
    if (!figures.ok()) return figures.error();
    report.values.push_back(figures->gigabits);
    near_ns.push_back(figures->near_ns);
    far_ns.push_back(figures->far_ns);
    per_gb.push_back(figures->program_seconds_per_gb);
  }
  report.cpu_ns_per_op = std::max(median(near_ns), median(far_ns));
  report.gates = {{"gbit_per_second", median(report.values), 8, Better::higher}};
  report.figures = {{"cpu_near_node_ns_per_packet", median(near_ns)},
                    {"cpu_far_node_ns_per_packet", median(far_ns)},
                    {"cpu_both_nodes_s_per_gb", median(per_gb)}};
  return report;
}

}  // namespace ravine::bench
