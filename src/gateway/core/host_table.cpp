#include <fmt/format.h>

#include <algorithm>

#include "base/text.h"
#include "gateway/core/near_gateway.h"

namespace ravine::gateway::core {
namespace {

std::string key_of(std::string_view host) {
  return to_lower(host.substr(0, host.starts_with('[') ? host.find(']') + 1 : host.find(':')));
}

}  // namespace

Result<> HostTable::add(std::string_view host, std::size_t gateway) {
  std::string key = key_of(host);
  if (std::any_of(entries_.begin(), entries_.end(), [&](const auto& entry) { return entry.first == key; }))
    return Error{ErrorKind::already_exists, fmt::format("host {} has a gateway already", host)};
  entries_.emplace_back(std::move(key), gateway);
  return {};
}

std::optional<std::size_t> HostTable::find(std::string_view host) const {
  const std::string key = key_of(host);
  for (const auto& [name, gateway] : entries_)
    if (name == key) return gateway;
  return default_;
}

}  // namespace ravine::gateway::core
