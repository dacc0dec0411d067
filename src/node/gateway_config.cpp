#include "node/gateway_config.h"

#include <fmt/format.h>

#include <algorithm>

#include "host/file.h"
#include "node/config_section.h"

namespace ravine::node {
namespace {

using services::FarServiceOptions;
using services::LinkTuning;
using services::NearPeer;
using services::NearServiceOptions;

// "127.0.0.1:8888", "[::1]:8888", ":8888" (all addresses).
std::optional<std::vector<SocketAddress>> parse_listen(std::string_view text) {
  if (const auto address = SocketAddress::parse(text)) return std::vector{*address};
  const auto parts = HostPort::parse(text);
  if (!parts || !(parts->host.empty() || parts->host == "*")) return std::nullopt;
  return std::vector<SocketAddress>{{IpAddress::v4({0, 0, 0, 0}), parts->port}, {IpAddress(), parts->port}};
}

void read_listen(Section& section, std::string_view key, std::vector<SocketAddress>& out) {
  if (!section.has(key)) {
    section.take(key);
    return;
  }
  std::string text;
  section.read(key, text);
  const auto addresses = parse_listen(text);
  if (addresses) {
    out = *addresses;
  } else {
    section.issue(key, fmt::format("{} = \"{}\" is no address with a port; write \"127.0.0.1:8888\", or "
                                   "\":8888\" for all addresses",
                                   key, text));
  }
}

void read_peer_text(Section& section, std::string& out) {
  section.read("peer", out);
  if (out.empty()) return;
  if (const auto spec = services::PeerSpec::parse(out); !spec) section.issue("peer", spec.error().message);
}

void read_pairing_name(Section& section, std::string& out) {
  section.read("pairing", out);
  if (!out.empty() && !is_valid_name(out))
    section.issue("pairing", fmt::format("\"{}\" is no pairing name; use a-z, 0-9 and hyphens", out));
}

void read_suppress(Section& section, gateway::core::NearOptions::Suppress& out) {
  std::vector<std::string> words;
  section.read("suppress", words);
  for (const std::string& word : words) {
    if (word == "avatars") {
      out.avatars = true;
    } else if (word == "receipts") {
      out.receipts = true;
    } else if (word == "typing") {
      out.typing = true;
    } else if (word == "presence") {
      out.presence = true;
    } else {
      section.issue(
          "suppress",
          fmt::format("\"{}\" cannot be suppressed; use avatars, receipts, typing, presence", word));
    }
  }
}

void read_fallback(Section& section, NearServiceOptions& out) {
  section.read("fallback", out.fallback);
  const std::string& text = out.fallback;
  if (text.empty() || text == "https" || text.starts_with("https://") || text.starts_with("http://")) return;
  section.issue("fallback",
                fmt::format("fallback = \"{}\" is neither \"https\" (to the request's host, one of "
                            "[[gateway.route]]) nor a URL",
                            text));
}

NearServiceOptions read_near(Section section) {
  NearServiceOptions out;
  NearPeer peer;
  read_listen(section, "listen", out.listen);
  section.read("allow_remote", out.allow_remote);
  for (const SocketAddress& address : out.listen) {
    if (address.ip.is_loopback() || out.allow_remote) continue;
    section.issue("listen", fmt::format("{} would let everybody who reaches it use the link; listen on "
                                        "127.0.0.1, or set allow_remote = true (--allow-remote)",
                                        address.to_text()));
    break;
  }
  read_peer_text(section, peer.peer);
  read_pairing_name(section, peer.pairing);
  read_suppress(section, out.suppress);
  read_fallback(section, out);
  section.read("timeout", out.gateway_timeout, 1s, 24h);
  section.read("fallback_after", out.fallback_after, 1s, 24h);
  section.read("coap_servers", out.coap.servers);
  section.read("coap_target", out.coap.target);
  for (const std::string& server : out.coap.servers)
    if (const auto read = services::parse_coap_server(server); !read)
      section.issue("coap_servers", read.error().message);
  if (const auto read = services::parse_coap_server(out.coap.target); !out.coap.target.empty() && !read)
    section.issue("coap_target", read.error().message);
  section.finish();
  out.peers.push_back(std::move(peer));
  return out;
}

NearPeer read_route(Section section) {
  NearPeer out;
  section.read("hosts", out.hosts);
  read_pairing_name(section, out.pairing);
  read_peer_text(section, out.peer);
  if (out.hosts.empty())
    section.issue("hosts", "[[gateway.route]] needs hosts; write: hosts = [\"matrix.example.org\"]");
  if (out.pairing.empty())
    section.issue("pairing", "[[gateway.route]] needs the name of a pairing; write: pairing = \"hut\"");
  section.finish();
  return out;
}

FarServiceOptions read_far(Section section) {
  FarServiceOptions out;
  std::string listen;
  section.read("listen", listen);
  if (services::is_pipe_spec(listen)) {
    out.line = listen;
  } else if (!listen.empty()) {
    const auto parts = HostPort::parse(listen);
    const auto addresses = parse_listen(listen);
    if (!addresses) {
      section.issue("listen",
                    fmt::format("listen = \"{}\" is neither an address with a port (\":5683\") nor a "
                                "line (\"/dev/ttyUSB0:9600\", \"stdio\", \"exec:COMMAND\")",
                                listen));
    } else if (addresses->size() == 1) {
      out.listen = *addresses;
    } else {
      out.port = parts->port;
    }
  }
  section.read("upstream", out.upstream.base);
  if (!out.upstream.base.starts_with("http://") && !out.upstream.base.starts_with("https://"))
    section.issue("upstream",
                  section.has("upstream")
                      ? fmt::format("upstream = \"{}\" is no URL; write \"https://matrix.example.org\"",
                                    out.upstream.base)
                      : "where are requests to go? Write: upstream = \"https://matrix.example.org\"");
  section.read("host", out.upstream.host_header);
  section.read("ca_file", out.upstream.tls.ca_file);
  section.read("verify", out.upstream.tls.verify);
  section.read("pairings", out.pairings);
  section.read("timeout", out.upstream_timeout, 1s, 24h);
  read_listen(section, "well_known", out.well_known_listen);
  section.read("public_address", out.public_address);
  section.read("coap_clear", out.coap.clear);
  section.read("oscore", out.coap.oscore);
  section.read("coap_forward", out.coap.forward);
  section.read("maps_dir", out.coap.maps_dir);
  if (const auto hosts = gateway::coap_proxy::AllowedHosts::parse(out.coap.forward); !hosts)
    section.issue("coap_forward", hosts.error().message);
  if (!out.coap.forward.empty() && !out.coap.enabled())
    section.issue("coap_forward",
                  "CoAP clients are not served; add oscore = [\"FILE\"] or coap_clear = true");
  section.finish();
  return out;
}

void read_tuning(Section& section, LinkTuning& out) {
  std::string rate;
  section.read("rate", rate);
  if (!rate.empty()) {
    const auto parsed = services::parse_rate(rate);
    if (parsed) out.rate_bps = *parsed;
    if (!parsed) section.issue("rate", parsed.error().message);
  }
  section.read("matrix", out.matrix);
  section.read("alias_events", out.alias_events);
  section.read("headers", out.more_headers);
  for (std::string& name : out.more_headers) {
    const bool good = !name.empty() && std::all_of(name.begin(), name.end(), [](unsigned char c) {
      return std::isalnum(c) != 0 || c == '-' || c == '_';
    });
    if (!good) section.issue("headers", fmt::format("\"{}\" is no header's name", name));
    std::transform(name.begin(), name.end(), name.begin(), [](unsigned char c) { return std::tolower(c); });
  }
  section.read("no_encryption_point_to_point", out.plain_point_to_point);
  section.read("silence", out.silence, 1s, 24h);
}

const toml::table* take_table(Section& section, std::string_view key) {
  const toml::node* node = section.take(key);
  if (node == nullptr) return nullptr;
  if (node->as_table() == nullptr)
    section.issue_at(*node, fmt::format("\"{}\" is a section; write [gateway.{}]", key, key));
  return node->as_table();
}

void read_gateway(Section section, ConfigIssues& issues, GatewayConfig& out) {
  LinkTuning tuning;
  read_tuning(section, tuning);
  section.read("coder", out.coder);
  section.read("state", out.state);
  section.read("node_control", out.node_control);
  if (const auto* table = take_table(section, "near"))
    out.near = read_near(Section(issues, *table, "[gateway.near]"));
  if (const auto* table = take_table(section, "far"))
    out.far = read_far(Section(issues, *table, "[gateway.far]"));
  if (const toml::node* routes = section.take("route")) {
    const toml::array* array = routes->as_array();
    if (array == nullptr || !array->is_array_of_tables()) {
      section.issue_at(*routes,
                       "\"route\" may come several times; write [[gateway.route]] with two brackets");
    } else if (!out.near) {
      section.issue_at(*routes, "[[gateway.route]] is of the near side; add [gateway.near]");
    } else {
      for (const toml::node& item : *array)
        out.near->peers.push_back(read_route(Section(issues, *item.as_table(), "[[gateway.route]]")));
    }
  }
  if (!out.near && !out.far)
    section.issue("near", "[gateway] is neither near nor far; add [gateway.near] or [gateway.far]");
  if (out.near && out.near->fallback == "https" && out.near->peers.size() == 1)
    section.issue("near",
                  "fallback = \"https\" goes to hosts that [[gateway.route]] names; add one, or give "
                  "the server's URL as fallback");
  section.finish();
  if (out.near) out.near->tuning = tuning;
  if (out.far) out.far->tuning = tuning;
}

}  // namespace

Result<GatewayConfig> parse_gateway_config(std::string_view text, std::string_view file_name) {
  ConfigIssues issues(file_name);
  GatewayConfig config;
  try {
    const toml::table root = toml::parse(text, file_name);
    const auto* gateway = root.get_as<toml::table>("gateway");
    if (gateway == nullptr) {
      issues.add({1, 1}, "there is no [gateway] section here");
    } else {
      read_gateway(Section(issues, *gateway, "[gateway]"), issues, config);
    }
  } catch (const toml::parse_error& fault) {
    issues.add(fault.source().begin,
               fmt::format("this is not TOML: {}; check quotes, brackets and '=' on this line",
                           fault.description()));
  }
  if (!issues.empty()) return issues.to_error();
  return config;
}

Result<GatewayConfig> load_gateway_config(const std::string& path) {
  auto read = host::read_file(path, kMaxConfigBytes);
  if (!read) return read.error();
  return parse_gateway_config(as_text(*read), path);
}

}  // namespace ravine::node
