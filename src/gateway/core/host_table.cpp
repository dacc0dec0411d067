#include <fmt/format.h>

#include "gateway/core/near_gateway.h"

namespace ravine::gateway::core {

Result<> HostTable::add(std::string_view host, std::size_t gateway) {
  if (find(host) && (!default_ || find(host) != default_))
    return Error{ErrorKind::already_exists, fmt::format("host {} has a gateway already", host)};
  std::string key(host.substr(0, host.starts_with('[') ? host.find(']') + 1 : host.find(':')));
  for (char& c : key)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c + 32);
  entries_.emplace_back(std::move(key), gateway);
  return {};
}

std::optional<std::size_t> HostTable::find(std::string_view host) const {
  std::string key(host.substr(0, host.starts_with('[') ? host.find(']') + 1 : host.find(':')));
  for (char& c : key)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c + 32);
  for (const auto& [name, gateway] : entries_)
    if (name == key) return gateway;
  return default_;
}

}  // namespace ravine::gateway::core
