// Text forms of a link: "100bps", "10%", "2s", "30s/10m", and all in one as "rate=100bps,loss=10%,delay=2s".
// Pure functions.
#pragma once

#include <optional>
#include <string_view>

#include "base/result.h"
#include "lab/emulated_link.h"

namespace ravine::lab {

// Bits per second: "100bps", "9.6kbps", "1Mbps", "2Gbps"; a bare number is bit/s. At most 1e12; 0 is
// unlimited.
std::optional<double> parse_rate(std::string_view text);
// A share of all: "10%", "0.1".
std::optional<double> parse_share(std::string_view text);
// "250ms", "2s", "1.5s", "10m", "1h"; at most a week.
std::optional<Duration> parse_span(std::string_view text);

// Sets one field by its name on the command line: rate, loss, delay, jitter, burst, duplicate, reorder,
// corrupt, outage (LENGTH/PERIOD), queue (bytes), overhead (bytes). Errors: invalid_argument, naming what is
// wrong and an example.
Result<> set_field(LinkProfile& profile, std::string_view name, std::string_view value);
// "NAME=VALUE,NAME=VALUE…" on top of `base`.
Result<LinkProfile> parse_profile(std::string_view text, LinkProfile base = {});
// The same back, fields that differ from the default alone.
std::string to_text(const LinkProfile& profile);

}  // namespace ravine::lab
