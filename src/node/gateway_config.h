// GatewayConfig: what `ravine gateway` is told to be, read from TOML ([gateway], [gateway.near],
// [gateway.far], [[gateway.route]]) or from flags, which become TOML. Every key is checked and unknown keys
// are refused, as in config.h. docs/gateway.md lists the keys. Values; any thread.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"
#include "services/gateway/far_service.h"
#include "services/gateway/near_service.h"

namespace ravine::node {

struct GatewayConfig {
  // At least one. A NearPeer without a pairing name means the only near pairing there is.
  std::optional<services::NearServiceOptions> near;
  std::optional<services::FarServiceOptions> far;
  std::string coder;         // empty: the default
  std::string state;         // directory; empty: the default
  std::string node_control;  // control socket of the node that carries sessions; empty: the default
};

// Errors: invalid_argument, one line per fault: "FILE:LINE:COLUMN: what; how to put it right".
Result<GatewayConfig> parse_gateway_config(std::string_view text, std::string_view file_name);
// The same for a file; not_found when there is none.
Result<GatewayConfig> load_gateway_config(const std::string& path);

}  // namespace ravine::node
