#include "cli/doctor_checks.h"

#include <dirent.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>

#include "cli/context.h"
#include "cli/daemon.h"
#include "cli/launch.h"
#include "cli/output.h"
#include "host/clock.h"
#include "host/file.h"
#include "host/interfaces.h"
#include "host/process.h"
#include "host/udp_port.h"
#include "node/member.h"
#include "ravine/version.h"

namespace ravine::cli {

namespace {

class Examination {
 public:
  explicit Examination(const Context& context) : context_(context), state_(state_directory(context)) {}

  std::vector<Finding> run() {
    check_time();
    check_state();
    check_config();
    check_daemon();
    check_port();
    check_offloads();
    check_buffers();
    check_addresses();
    check_rights();
    check_identities();
    return std::move(findings_);
  }

 private:
  void good(std::string check, std::string found, std::string redacted = {}) {
    add(std::move(check), Health::good, std::move(found), {}, std::move(redacted));
  }
  void add(std::string check, Health health, std::string found, std::string remedy,
           std::string redacted = {}) {
    if (redacted.empty()) redacted = found;
    findings_.push_back({std::move(check), health, std::move(found), std::move(remedy), std::move(redacted)});
  }

  void check_time() {
    const UnixTime now = host::system_time();
    if (now < host::build_time()) {
      return add("time", Health::bad,
                 fmt::format("{}, which is before this program was made", date_text(now)),
                 "set the clock: certificates are checked against it");
    }
    if (!host::is_time_synchronised()) {
      return add("time", Health::warning, fmt::format("{}, not synchronised", date_text(now)),
                 "run an NTP client (systemctl enable --now systemd-timesyncd); certificates need a clock "
                 "within 10 minutes");
    }
    good("time", fmt::format("{}, synchronised", date_text(now)));
  }

  void check_state() {
    const std::string& path = state_.path();
    struct stat status{};
    if (::stat(path.c_str(), &status) != 0) {
      return add("state", Health::warning, fmt::format("{} does not exist yet", path),
                 "run \"ravine ca init\" or \"ravine join CODE\"", "state directory does not exist yet");
    }
    if ((status.st_mode & 022) != 0 || ::access(path.c_str(), R_OK | W_OK | X_OK) != 0) {
      return add("state", Health::bad,
                 fmt::format("{} (mode {:04o}) is not ours alone", path, status.st_mode & 07777),
                 fmt::format("chmod 700 {}; and own it as the user that runs the node", path),
                 "state directory has wrong rights");
    }
    struct statvfs space{};
    if (::statvfs(path.c_str(), &space) == 0) {
      const std::uint64_t free_bytes = static_cast<std::uint64_t>(space.f_bavail) * space.f_frsize;
      if (free_bytes < 16u << 20) {
        return add("state", Health::bad, fmt::format("{} has {} left", path, bytes_text(free_bytes)),
                   "make room: renewed certificates could not be stored",
                   "disk of the state directory is full");
      }
    }
    good("state", path, "state directory is fine");
  }

  void check_config() {
    auto config = make_config(context_, {});
    if (!config) {
      return add("config", Health::bad, config.error().message,
                 "correct it; \"ravine config check\" shows it again", "configuration has faults");
    }
    config_ = std::move(*config);
    good("config", config_.file.empty() ? "none, the defaults hold" : config_.file, "configuration is good");
  }

  void check_daemon() {
    running_ = is_running(context_);
    if (running_) return good("node", fmt::format("answers on {}", control_path(context_)), "node answers");
    add("node", Health::warning, fmt::format("no node answers on {}", control_path(context_)),
        "start it: ravine up --detach, or systemctl start ravine", "no node answers");
  }

  void check_port() {
    const std::uint16_t wanted = config_.node.port.value_or(node::kDefaultPort);
    auto port = host::UdpPort::open(running_ ? std::uint16_t{0} : wanted, config_.node.listen);
    if (!port) {
      return add("port", Health::bad, port.error().message,
                 port.error().kind == ErrorKind::already_exists
                     ? fmt::format("stop the program that uses UDP port {}, or set another node.port", wanted)
                     : "correct node.listen",
                 fmt::format("UDP port {} cannot be opened", wanted));
    }
    good("port", running_ ? "the node has its UDP port" : fmt::format("UDP port {} is free", wanted));
    if (!port->has_v4)
      add("ipv4", Health::warning, "no IPv4 on this machine", "peers with IPv4 alone cannot be reached");
    if (port->has_v6) {
      good("ipv6", "works");
    } else {
      add("ipv6", Health::warning, "no IPv6 on this machine",
          "not needed, but it often goes round NATs (sysctl net.ipv6.conf.all.disable_ipv6)");
    }
    for (const host::UdpSocket& socket : port->sockets) gro_ = gro_ || socket.has_gro();
  }

  void check_offloads() {
    if (gro_) return good("offload", "the kernel takes and gives trains of UDP packets (GSO, GRO)");
    add("offload", Health::warning, "no UDP GRO", "a kernel from 5.0 on is several times faster");
  }

  void check_buffers() {
    constexpr std::uint64_t kWanted = 4u << 20;  // bytes: 3 ms at 10 Gbit/s
    for (const char* name : {"rmem_max", "wmem_max"}) {
      auto text = host::read_file(fmt::format("/proc/sys/net/core/{}", name), 64);
      if (!text) continue;
      const std::uint64_t bytes = std::strtoull(std::string(as_text(*text)).c_str(), nullptr, 10);
      if (bytes >= kWanted) {
        good("buffers", fmt::format("net.core.{} = {}", name, bytes));
      } else {
        add("buffers", Health::warning,
            fmt::format("net.core.{} = {}, bursts are lost above some 100 Mbit/s", name, bytes),
            fmt::format("sysctl -w net.core.{}=16777216", name));
      }
    }
  }

  void check_addresses() {
    auto addresses = host::list_interface_addresses();
    if (!addresses) {
      return add("addresses", Health::bad, addresses.error().message, "allow AF_NETLINK to this process");
    }
    std::uint32_t smallest = UINT32_MAX;
    std::size_t usable = 0;
    bool routed = false;
    for (const host::InterfaceAddress& address : *addresses) {
      if (!address.is_usable()) continue;
      ++usable;
      routed = routed || address.default_route;
      smallest = std::min(smallest, address.mtu);
    }
    if (usable == 0) {
      return add("addresses", Health::bad, "no address that a peer could reach",
                 "connect this machine to a network");
    }
    good("addresses", fmt::format("{} usable{}", usable, routed ? "" : ", without a default route"));
    if (smallest < 1280) {
      add("mtu", Health::bad, fmt::format("{} bytes on an interface", smallest),
          "QUIC needs 1280 (RFC 9000, section 14)");
    } else {
      good("mtu", fmt::format("{} bytes at least", smallest));
    }
  }

  void check_rights() {
    if (::geteuid() == 0) {
      return add("rights", Health::warning, "running as root",
                 "the node needs no rights; use packaging/ravine.service");
    }
    good("rights", "an ordinary user, as it should be");
  }

  void check_identities() {
    auto networks = node::configured_networks(state_, config_);
    if (!networks || networks->empty()) {
      return add("identity", Health::warning, "this machine is in no network",
                 "run \"ravine ca init\" or \"ravine join CODE\"");
    }
    const UnixTime now = host::system_time();
    for (const node::NetworkConfig& network : *networks) {
      auto member = node::load_member(state_, network, now);
      if (!member) {
        add("identity", Health::bad, member.error().message, "follow what the message says",
            "a membership is not usable");
        continue;
      }
      check_validity(*member, now);
    }
  }

  void check_validity(const node::Member& member, UnixTime now) {
    if (!member.unusable.empty()) {
      return add("identity", Health::bad, fmt::format("{}: off, {}", member.name, member.unusable),
                 "correct this machine's time, or join again with \"ravine join CODE\"",
                 "a network is off because of its certificate's dates");
    }
    if (member.is_pinned())
      return good("identity", fmt::format("{}: pinned", member.name), "a pinned network");
    const UnixTime end = member.leaf().not_after;
    const std::string redacted = fmt::format("a certificate until {}", date_text(end));
    if (now > end) {
      return add("identity", Health::bad,
                 fmt::format("{}: expired {}, accepted within its grace", member.name, date_text(end)),
                 "let the node reach the issuer, it renews by itself; or join again",
                 redacted + ", in grace");
    }
    if (now >= identity::renew_at(member.leaf()) + std::chrono::days(1)) {
      return add("identity", Health::warning,
                 fmt::format("{}: valid until {}, but renewal is overdue", member.name, date_text(end)),
                 "is the issuer's node running and reachable? ravine ping ISSUER",
                 redacted + ", renewal overdue");
    }
    good("identity", fmt::format("{}: valid until {}", member.name, date_text(end)), redacted);
  }

  const Context& context_;
  node::StateDir state_;
  node::Config config_;
  bool running_ = false;
  bool gro_ = false;
  std::vector<Finding> findings_;
};

}  // namespace

std::vector<Finding> run_checks(const Context& context) {
  return Examination(context).run();
}

std::string redacted_report(const std::vector<Finding>& findings) {
  const host::MachineFacts machine = host::machine_facts();
  std::string out =
      fmt::format("ravine {}\nkernel {}\nprocessor {}, {} cores, {} of memory\n\n", RAVINE_VERSION,
                  machine.kernel, machine.cpu, machine.cores, bytes_text(machine.memory_bytes));
  for (const Finding& finding : findings) {
    const char* health = finding.health == Health::good      ? "ok"
                         : finding.health == Health::warning ? "warning"
                                                             : "bad";
    out += fmt::format("{:<10} {:<8} {}\n", finding.check, health, finding.redacted);
  }
  return out;
}

}  // namespace ravine::cli
