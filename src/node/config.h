// Config: what a node is told to be, read from TOML or from flags. Every key is checked and unknown keys are
// refused, with file:line:column, what is wrong and how to put it right. docs/configuration.md lists the
// keys; this file is their type. It does not open anything that the configuration names. Values; any thread.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/address.h"
#include "base/log.h"
#include "base/result.h"
#include "base/time.h"
#include "host/logging.h"
#include "identity/network_trust.h"
#include "session/connection.h"

namespace ravine::node {

inline constexpr std::uint16_t kDefaultPort = 4717;       // UDP
inline constexpr std::uint16_t kDefaultProxyPort = 1080;  // RFC 1928's
inline constexpr std::size_t kMaxConfigBytes = 1u << 20;
inline constexpr std::size_t kMaxConfigErrors = 20;  // reported at once

using host::LogFormat;

struct NodeSection {
  std::string state;                  // directory; empty: the default, see StateDir
  std::optional<std::uint16_t> port;  // unset: kDefaultPort; 0: any free one
  std::string name;                   // told to peers; empty: the certificate's
  std::vector<IpAddress> listen;      // empty: all addresses
  LogLevel log_level = LogLevel::info;
  std::map<std::string, LogLevel, std::less<>> log_levels;  // by component, over log_level
  LogFormat log_format = LogFormat::text;
  std::string control;                            // path of the control socket; empty: the default
  std::chrono::seconds grace = identity::kGrace;  // how long after their end certificates are accepted here
  std::optional<SocketAddress> metrics;           // Prometheus over HTTP; unset: off
  Duration idle_timeout = 60s;
  Duration keep_alive = 15s;
  session::CongestionControl congestion = session::CongestionControl::cubic;
  session::ProtectionBackend protection = session::ProtectionBackend::automatic;
  friend bool operator==(const NodeSection&, const NodeSection&) = default;
};

// A network that this node is a member of. The directory holds its files, see StateDir.
struct NetworkConfig {
  std::string name;
  std::string directory;            // relative ones are below the state directory; empty: networks/NAME
  std::vector<std::string> pinned;  // peer IDs (64 hex digits): a network without CA
  std::chrono::seconds grace = identity::kGrace;  // from [node]
  friend bool operator==(const NetworkConfig&, const NetworkConfig&) = default;
};

// Where a peer can be found. At least one of name and id.
struct PeerConfig {
  std::string name;                    // of the certificate
  std::string id;                      // 16 characters
  std::string network;                 // empty: the only one, or any
  std::vector<std::string> addresses;  // "host:port", "192.0.2.1:4717", "[2001:db8::1]:4717"
  bool keep = false;                   // hold a session open all the time
  friend bool operator==(const PeerConfig&, const PeerConfig&) = default;
};

struct ProxyUser {
  std::string name, password;
  friend bool operator==(const ProxyUser&, const ProxyUser&) = default;
};

struct ProxyConfig {
  bool enabled = true;
  SocketAddress listen{IpAddress::v4({127, 0, 0, 1}), kDefaultProxyPort};
  std::vector<ProxyUser> users;  // required when listening beyond loopback
  friend bool operator==(const ProxyConfig&, const ProxyConfig&) = default;
};

struct ForwardConfig {
  SocketAddress listen;
  std::string to;  // "name.fuse:22"
  bool udp = false;
  friend bool operator==(const ForwardConfig&, const ForwardConfig&) = default;
};

struct ExposeConfig {
  std::uint16_t port = 0;          // as peers see it
  std::string to;                  // "127.0.0.1:8080"
  std::vector<std::string> allow;  // names, 16-character IDs, "group:NAME", "*"; empty: nobody
  bool udp = false;
  friend bool operator==(const ExposeConfig&, const ExposeConfig&) = default;
};

struct Config {
  NodeSection node;
  std::vector<NetworkConfig> networks;  // empty: every directory of STATE/networks
  std::vector<PeerConfig> peers;
  ProxyConfig proxy;
  std::vector<ForwardConfig> forwards;
  std::vector<ExposeConfig> exposes;
  std::string file;  // where it came from; empty: flags alone
  friend bool operator==(const Config&, const Config&) = default;
};

// Errors: invalid_argument whose message has one line per fault, "FILE:LINE:COLUMN: what; how to put it
// right".
Result<Config> parse_config(std::string_view text, std::string_view file_name);
// The same for a file; not_found when there is none. A file with passwords must be readable by its owner
// alone.
Result<Config> load_config(const std::string& path);

// Names the keys that differ and that a running node cannot take over; what it can take over is not listed.
std::vector<std::string> keys_needing_restart(const Config& running, const Config& wanted);

// "15s", "5m", "2h", "30d", "250ms". At most ten years. nullopt when malformed.
std::optional<Duration> parse_duration(std::string_view text);

// The candidate that is nearest in spelling, when near enough to be what was meant (at most a third of its
// letters differ).
std::optional<std::string_view> nearest_word(std::string_view word,
                                             const std::vector<std::string_view>& candidates);

// True for 1–63 characters of a–z, 0–9 and inner hyphens: names of peers, networks and groups.
bool is_valid_name(std::string_view name);
// A host name made fit to be a node's name: its first label in lower case without what names may not have.
std::string name_of_machine(std::string_view host_name);

// What `ravine ca init` and `ravine join` write: every key commented out, so the defaults hold.
std::string_view default_config_text();

}  // namespace ravine::node
