// Configuration texts: an answer or an error that names a place, never anything else; the small grammars
// round-trip.
#include "fuzz/fuzz_input.h"
#include "node/config.h"

using namespace ravine;
using fuzz::expect;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text = as_text({data, size});
  const auto parsed = node::parse_config(text, "fuzz.toml");
  if (parsed.ok()) {
    expect(*parsed == *parsed);
    expect(node::keys_needing_restart(*parsed, *parsed).empty());
  } else {
    expect(parsed.error().kind == ErrorKind::invalid_argument && !parsed.error().message.empty());
  }
  if (const auto duration = node::parse_duration(text)) expect(duration->count() >= 0);
  (void)node::nearest_word(text, {"listen", "allow", "port"});
  return 0;
}
