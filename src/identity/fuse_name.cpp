#include "identity/fuse_name.h"

#include <algorithm>

#include "base/text.h"
#include "identity/peer_id.h"

namespace ravine::identity {
namespace {

constexpr std::size_t kMaxHost = 253;  // RFC 1035 §2.3.4
constexpr std::string_view kSuffix = ".fuse";

std::string_view without_dot(std::string_view host) {
  if (!host.empty() && host.back() == '.') host.remove_suffix(1);
  return host;
}

}  // namespace

bool is_valid_node_name(std::string_view name) {
  if (name.empty() || name.size() > 63 || name.front() == '-' || name.back() == '-') return false;
  const auto allowed = [](char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-'; };
  return std::all_of(name.begin(), name.end(), allowed) && !parse_peer_id_text(name);
}

std::optional<FuseName> FuseName::parse(std::string_view host) {
  if (host.size() > kMaxHost || !is_under_fuse(host)) return std::nullopt;
  std::string text = to_lower(without_dot(host));
  text.resize(text.size() - kSuffix.size());
  FuseName name;
  const std::size_t dot = text.find('.');
  name.peer = text.substr(0, dot);
  if (dot != text.npos) {
    name.network = text.substr(dot + 1);
    if (!is_valid_node_name(name.network)) return std::nullopt;
  }
  if (parse_peer_id_text(name.peer)) {
    name.kind = Kind::peer_id;
  } else if (!is_valid_node_name(name.peer)) {
    return std::nullopt;
  }
  return name;
}

std::string FuseName::to_text() const {
  return network.empty() ? peer + ".fuse" : peer + "." + network + ".fuse";
}

bool is_under_fuse(std::string_view host) {
  host = without_dot(host);
  if (host.size() > kMaxHost || host.size() < kSuffix.size()) return false;
  return to_lower(host.substr(host.size() - kSuffix.size())) == kSuffix;
}

}  // namespace ravine::identity
