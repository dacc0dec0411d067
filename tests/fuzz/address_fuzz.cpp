// Address texts: whatever parses has one canonical text that parses to the same value, and is classified
// alike.
#include "base/address.h"
#include "fuzz/fuzz_input.h"

using namespace ravine;
using fuzz::expect;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text = as_text({data, size});
  if (const auto address = IpAddress::parse(text)) {
    const auto again = IpAddress::parse(address->to_text());
    expect(again.has_value() && *again == *address);
    expect(again->to_text() == address->to_text());
    if (const auto inner = address->embedded_v4()) expect(inner->is_v4() && address->is_v6());
    expect(!(address->is_loopback() && address->is_multicast()));
  }
  if (const auto address = SocketAddress::parse(text)) {
    const auto again = SocketAddress::parse(address->to_text());
    expect(again.has_value() && *again == *address);
    expect(SocketAddressHash{}(*again) == SocketAddressHash{}(*address));
  }
  if (const auto target = HostPort::parse(text)) expect(target->host.size() < size);
  if (size == 16) {
    std::array<std::uint8_t, 16> raw;
    std::copy_n(data, 16, raw.begin());
    const IpAddress address = IpAddress::v6(raw);
    const auto again = IpAddress::parse(address.to_text());
    expect(again.has_value() && *again == address);
  }
  return 0;
}
