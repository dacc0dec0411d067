// Which coders the gateways' links may use.
#include <fmt/format.h>

#include "cli/gateway.h"

namespace ravine::cli {

Result<std::function<gateway::link::Coders()>> gateway_coders(const std::string& name) {
  if (!name.empty() && name != "none")
    return Error{ErrorKind::invalid_argument, fmt::format("--coder \"{}\" is unknown; use none", name)};
  return std::function<gateway::link::Coders()>([] {
    gateway::link::Coders coders;
    coders.push_back(gateway::coder::make_none_coder());
    return coders;
  });
}

}  // namespace ravine::cli
