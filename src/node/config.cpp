#include "node/config.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "node/config_section.h"

namespace ravine::node {

namespace {

void read_log_levels(Section& section, NodeSection& out) {
  static const std::vector<std::string_view> kWords{"trace", "debug", "info", "warning", "error", "off"};
  if (const auto word = section.read_word("log_level", kWords))
    out.log_level = *host::parse_log_level(kWords[*word]);
  if (const auto word = section.read_word("log_format", {"text", "json"})) {
    out.log_format = *word == 0 ? LogFormat::text : LogFormat::json;
  }
  const toml::node* levels = section.take("log_levels");
  if (levels == nullptr) return;
  const toml::table* table = levels->as_table();
  if (table == nullptr) {
    return section.issue_at(*levels,
                            "log_levels has to be a table; write: log_levels = { session = \"debug\" }");
  }
  for (const auto& [component, value] : *table) {
    const auto* text = value.as_string();
    const auto level = text != nullptr ? host::parse_log_level(text->get()) : std::nullopt;
    if (!level) {
      section.issue_at(
          value,
          fmt::format("log level of \"{}\" is unknown; use one of: trace, debug, info, warning, error, off",
                      component.str()));
      continue;
    }
    out.log_levels.emplace(component.str(), *level);
  }
}

void read_node(Section section, NodeSection& out) {
  section.read("state", out.state);
  if (section.has("port")) {
    std::uint16_t port = kDefaultPort;
    section.read("port", port, 0);
    out.port = port;
  } else {
    section.take("port");
  }
  section.read("name", out.name);
  if (!out.name.empty() && !is_valid_name(out.name)) {
    section.issue("name",
                  fmt::format("name = \"{}\" is no name; use at most 63 of a-z, 0-9 and hyphens", out.name));
  }
  std::vector<std::string> listen;
  section.read("listen", listen);
  for (const std::string& text : listen) {
    if (const auto address = IpAddress::parse(text)) {
      out.listen.push_back(*address);
    } else {
      section.issue(
          "listen",
          fmt::format("\"{}\" in listen is no IP address; write [\"0.0.0.0\", \"::\"], without a port",
                      text));
    }
  }
  read_log_levels(section, out);
  section.read("control", out.control);
  if (out.control.size() > 107) {
    section.issue(
        "control",
        "control is longer than the 107 bytes that a UNIX socket's path may have; use a shorter one");
  }
  if (section.has("metrics")) {
    SocketAddress address;
    section.read("metrics", address);
    if (address.port != 0) out.metrics = address;
  } else {
    section.take("metrics");
  }
  Duration grace = out.grace;
  section.read("grace", grace, identity::kClockSkew, 365 * 24h);
  out.grace = std::chrono::duration_cast<std::chrono::seconds>(grace);
  section.read("idle_timeout", out.idle_timeout, 5s, 600s);
  section.read("keep_alive", out.keep_alive, 1s, 300s);
  if (out.keep_alive * 2 > out.idle_timeout) {
    section.issue(
        section.has("keep_alive") ? "keep_alive" : "idle_timeout",
        "keep_alive has to be at most half of idle_timeout, or sessions end while idle; change one of them");
  }
  if (const auto word = section.read_word("congestion", {"cubic", "bbr"})) {
    out.congestion = *word == 0 ? session::CongestionControl::cubic : session::CongestionControl::bbr;
  }
  if (const auto word = section.read_word("protection", {"auto", "ipsec-mb", "gnutls"})) {
    out.protection = static_cast<session::ProtectionBackend>(*word);
  }
  section.finish();
}

NetworkConfig read_network(Section section) {
  NetworkConfig out;
  section.read("name", out.name);
  if (!is_valid_name(out.name)) {
    section.issue("name", section.has("name")
                              ? fmt::format("name = \"{}\" is no name; use a-z, 0-9 and hyphens", out.name)
                              : "[[network]] needs a name; write: name = \"home\"");
  }
  section.read("directory", out.directory);
  section.read("pinned", out.pinned);
  for (const std::string& id : out.pinned) {
    const auto bytes = decode_hex(id);
    if (!bytes || bytes->size() != 32) {
      section.issue("pinned",
                    fmt::format("\"{}\" in pinned is no peer ID; give the 64 hex digits that \"ravine id\" "
                                "prints on that machine",
                                id));
    }
  }
  section.finish();
  return out;
}

bool is_peer_id_text(std::string_view text) {
  if (text.size() != 16) return false;
  const auto bytes = decode_base32(text);
  return bytes && bytes->size() == 10;
}

PeerConfig read_peer(Section section) {
  PeerConfig out;
  section.read("name", out.name);
  section.read("id", out.id);
  section.read("network", out.network);
  section.read("addresses", out.addresses);
  section.read("keep", out.keep);
  if (out.name.empty() && out.id.empty()) {
    section.issue("name", "[[peer]] needs a name or an id; write: name = \"box\"");
  }
  if (!out.name.empty() && !is_valid_name(out.name)) {
    section.issue("name",
                  fmt::format("name = \"{}\" is no peer name; use the name in its certificate, without .fuse",
                              out.name));
  }
  if (!out.id.empty() && !is_peer_id_text(out.id)) {
    section.issue("id",
                  fmt::format("id = \"{}\" is no peer ID; it has 16 characters of a-z and 2-7", out.id));
  }
  for (const std::string& address : out.addresses) {
    const auto parsed = HostPort::parse(address);
    if (!parsed || parsed->host.empty() || parsed->port == 0) {
      section.issue("addresses",
                    fmt::format("\"{}\" in addresses has no host or port; write \"192.0.2.1:{}\"", address,
                                kDefaultPort));
    }
  }
  section.finish();
  return out;
}

void read_users(Section& section, ProxyConfig& out) {
  const toml::node* users = section.take("users");
  if (users == nullptr) return;
  const toml::array* array = users->as_array();
  if (array == nullptr) {
    return section.issue_at(
        *users, "users has to be an array; write: users = [{ name = \"ann\", password = \"…\" }]");
  }
  for (const toml::node& item : *array) {
    const toml::table* table = item.as_table();
    ProxyUser user;
    if (table != nullptr) {
      if (const auto* name = table->get_as<std::string>("name")) user.name = name->get();
      if (const auto* password = table->get_as<std::string>("password")) user.password = password->get();
    }
    // RFC 1929 carries each in one length byte.
    if (user.name.empty() || user.name.size() > 255 || user.password.empty() || user.password.size() > 255) {
      section.issue_at(item,
                       "a proxy user needs a name and a password of 1 to 255 bytes; write: "
                       "{ name = \"ann\", password = \"…\" }");
      continue;
    }
    out.users.push_back(std::move(user));
  }
}

void read_proxy(Section section, ProxyConfig& out) {
  section.read("enabled", out.enabled);
  section.read("listen", out.listen);
  read_users(section, out);
  if (!out.listen.ip.is_loopback() && out.users.empty()) {
    section.issue("listen",
                  fmt::format("the proxy would serve {} to everybody; add users, or listen on 127.0.0.1",
                              out.listen.to_text()));
  }
  section.finish();
}

ForwardConfig read_forward(Section section) {
  ForwardConfig out;
  section.read("listen", out.listen);
  section.read("to", out.to);
  section.read("udp", out.udp);
  if (!section.has("listen"))
    section.issue("listen", "[[forward]] needs listen; write: listen = \"127.0.0.1:2222\"");
  const auto target = HostPort::parse(out.to);
  if (!target || target->host.empty() || target->port == 0) {
    section.issue("to", section.has("to")
                            ? fmt::format("to = \"{}\" has no peer or port; write \"box.fuse:22\"", out.to)
                            : "[[forward]] needs to; write: to = \"box.fuse:22\"");
  }
  section.finish();
  return out;
}

ExposeConfig read_expose(Section section) {
  ExposeConfig out;
  section.read("port", out.port, 1);
  section.read("to", out.to);
  section.read("allow", out.allow);
  section.read("udp", out.udp);
  if (!section.has("port"))
    section.issue("port", "[[expose]] needs port, the one that peers use; write: port = 80");
  const auto target = HostPort::parse(out.to);
  if (!target || target->host.empty() || target->port == 0) {
    section.issue("to", section.has("to")
                            ? fmt::format("to = \"{}\" has no host or port; write \"127.0.0.1:8080\"", out.to)
                            : "[[expose]] needs to; write: to = \"127.0.0.1:8080\"");
  }
  for (const std::string& entry : out.allow) {
    const std::string_view name = entry.starts_with("group:") ? std::string_view(entry).substr(6) : entry;
    if (entry == "*" || is_valid_name(name)) continue;
    section.issue(
        "allow",
        fmt::format("\"{}\" in allow is neither a name, a 16-character ID, \"group:NAME\" nor \"*\"", entry));
  }
  section.finish();
  return out;
}

// Reads each [[key]] with `one`; a single [key] is a fault that is told apart.
template <class T, class Read>
void read_tables(Section& top, ConfigIssues& issues, std::string_view key, std::vector<T>& out, Read one) {
  const toml::node* node = top.take(key);
  if (node == nullptr) return;
  const toml::array* array = node->as_array();
  if (array == nullptr || !array->is_array_of_tables()) {
    issues.add(node->source().begin,
               fmt::format("\"{}\" may come several times; write [[{}]] with two brackets", key, key));
    return;
  }
  const std::string title = fmt::format("[[{}]]", key);
  for (const toml::node& item : *array) out.push_back(one(Section(issues, *item.as_table(), title)));
}

const toml::table* take_table(Section& top, ConfigIssues& issues, std::string_view key) {
  const toml::node* node = top.take(key);
  if (node == nullptr) return nullptr;
  if (node->as_table() == nullptr) {
    issues.add(node->source().begin,
               fmt::format("\"{}\" is a section that comes once; write [{}] with one bracket", key, key));
  }
  return node->as_table();
}

// Two entries for one thing: the second is the fault.
template <class T, class Key>
void refuse_duplicates(const toml::table& root, ConfigIssues& issues, std::string_view section,
                       const std::vector<T>& entries, Key key) {
  for (std::size_t i = 0; i < entries.size(); ++i) {
    for (std::size_t j = 0; j < i; ++j) {
      if (key(entries[i]).empty() || key(entries[i]) != key(entries[j])) continue;
      issues.add((*root.get_as<toml::array>(section))[i].source().begin,
                 fmt::format("[[{}]] has {} twice; remove one of them", section, key(entries[i])));
      break;
    }
  }
}

void read_root(const toml::table& root, ConfigIssues& issues, Config& config) {
  Section top(issues, root, "the configuration");
  if (const auto* table = take_table(top, issues, "node"))
    read_node(Section(issues, *table, "[node]"), config.node);
  if (const auto* table = take_table(top, issues, "proxy"))
    read_proxy(Section(issues, *table, "[proxy]"), config.proxy);
  read_tables(top, issues, "network", config.networks, read_network);
  read_tables(top, issues, "peer", config.peers, read_peer);
  read_tables(top, issues, "forward", config.forwards, read_forward);
  read_tables(top, issues, "expose", config.exposes, read_expose);
  top.finish();
  for (NetworkConfig& network : config.networks) network.grace = config.node.grace;
  if (!issues.empty()) return;
  refuse_duplicates(root, issues, "network", config.networks, [](const NetworkConfig& n) { return n.name; });
  refuse_duplicates(root, issues, "peer", config.peers, [](const PeerConfig& p) { return p.id; });
  refuse_duplicates(root, issues, "forward", config.forwards, [](const ForwardConfig& f) {
    return fmt::format("{}{}", f.listen.to_text(), f.udp ? " (UDP)" : "");
  });
  refuse_duplicates(root, issues, "expose", config.exposes, [](const ExposeConfig& e) {
    return fmt::format("port {}{}", e.port, e.udp ? " (UDP)" : "");
  });
}

Error io_error(const std::string& path, int code) {
  if (code == ENOENT) {
    return {ErrorKind::not_found, fmt::format("{}: no such file; give another with -c FILE, or make one from "
                                              "ravine.toml.example",
                                              path)};
  }
  return {ErrorKind::io, fmt::format("{}: cannot be read: {}", path, std::strerror(code))};
}

}  // namespace

Result<Config> parse_config(std::string_view text, std::string_view file_name) {
  ConfigIssues issues(file_name);
  Config config;
  config.file = file_name;
  try {
    const toml::table root = toml::parse(text, file_name);
    read_root(root, issues, config);
  } catch (const toml::parse_error& fault) {
    issues.add(fault.source().begin,
               fmt::format("this is not TOML: {}; check quotes, brackets and '=' on this line",
                           fault.description()));
  }
  if (!issues.empty()) return issues.to_error();
  return config;
}

Result<Config> load_config(const std::string& path) {
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOCTTY);
  if (descriptor < 0) return io_error(path, errno);
  struct stat status{};
  std::string text;
  int code = ::fstat(descriptor, &status) == 0 ? 0 : errno;
  char block[4096];
  while (code == 0 && text.size() <= kMaxConfigBytes) {
    const ssize_t size = ::read(descriptor, block, sizeof block);
    if (size == 0) break;
    if (size < 0 && errno == EINTR) continue;
    if (size < 0) code = errno;
    if (size > 0) text.append(block, static_cast<std::size_t>(size));
  }
  ::close(descriptor);
  if (code != 0) return io_error(path, code);
  if (text.size() > kMaxConfigBytes) {
    return Error{ErrorKind::limit_reached,
                 fmt::format("{}: larger than {} bytes; this is no configuration", path, kMaxConfigBytes)};
  }
  auto config = parse_config(text, path);
  if (config && !config->proxy.users.empty() && S_ISREG(status.st_mode) && (status.st_mode & 077) != 0) {
    return Error{ErrorKind::refused,
                 fmt::format("{}: holds passwords but others may read it (mode {:04o}); run: "
                             "chmod 600 {}",
                             path, status.st_mode & 07777, path)};
  }
  return config;
}

std::vector<std::string> keys_needing_restart(const Config& running, const Config& wanted) {
  std::vector<std::string> keys;
  const auto compare = [&keys](const auto& a, const auto& b, const char* key) {
    if (!(a == b)) keys.emplace_back(key);
  };
  compare(running.node.state, wanted.node.state, "node.state");
  compare(running.node.port, wanted.node.port, "node.port");
  compare(running.node.name, wanted.node.name, "node.name");
  compare(running.node.listen, wanted.node.listen, "node.listen");
  compare(running.node.log_format, wanted.node.log_format, "node.log_format");
  compare(running.node.control, wanted.node.control, "node.control");
  compare(running.node.idle_timeout, wanted.node.idle_timeout, "node.idle_timeout");
  compare(running.node.keep_alive, wanted.node.keep_alive, "node.keep_alive");
  compare(running.node.congestion, wanted.node.congestion, "node.congestion");
  compare(running.node.protection, wanted.node.protection, "node.protection");
  return keys;
}

}  // namespace ravine::node
