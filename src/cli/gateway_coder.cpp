// Which coders the gateways' links may use.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "cli/gateway.h"
#include "gateway/coder/choice.h"

namespace ravine::cli {

Result<std::function<gateway::link::Coders()>> gateway_coders(const std::string& name) {
  using gateway::coder::kCoderNames;
  const auto* first = kCoderNames.begin();
  if (!name.empty()) first = std::find(kCoderNames.begin(), kCoderNames.end(), name);
  if (first == kCoderNames.end())
    return Error{ErrorKind::invalid_argument,
                 fmt::format("--coder \"{}\" is unknown; use one of {}", name, fmt::join(kCoderNames, ", "))};
  // The lesser ones too, for a far side that has another model.
  return std::function<gateway::link::Coders()>([first] {
    gateway::link::Coders coders;
    for (const auto* each = first; each != kCoderNames.end(); ++each)
      coders.push_back(gateway::coder::make_coder(*each, gateway::coder::shipped_model()).value());
    return coders;
  });
}

}  // namespace ravine::cli
