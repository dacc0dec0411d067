// Revocation lists: one encoding per list, look-ups agree with the entries, and parts go together again in
// any order.
#include <algorithm>

#include "fuzz/fuzz_input.h"
#include "identity/revocation.h"

using namespace ravine;
using fuzz::expect;

namespace {

void check_list(const identity::RevocationList& list) {
  expect(list.size() <= identity::kMaxRevoked && list.number() > 0);
  expect(std::is_sorted(list.entries().begin(), list.entries().end()));
  for (const identity::RevokedEntry& entry : list.entries()) {
    expect(list.revokes_key(entry.key) && list.revokes_serial(entry.serial));
  }
  auto parts = identity::split_revocation(list);
  expect(parts.size() <= identity::kMaxRevocationParts);
  std::reverse(parts.begin(), parts.end());
  identity::RevocationAssembler assembler;
  std::optional<Bytes> whole;
  for (const Bytes& part : parts) {
    expect(!whole && part.size() <= identity::kRevocationPartSize);
    whole = assembler.feed(part);
  }
  expect(whole && *whole == list.encoded());
  (void)list.has_valid_signature();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const ByteView bytes(data, size);
  if (const auto list = identity::RevocationList::decode(bytes); list.ok()) {
    expect(list->encoded() == to_bytes(bytes));
    check_list(*list);
  }
  identity::RevocationAssembler assembler;
  fuzz::Input input(bytes);
  while (!input.empty()) {
    const ByteView part = input.bytes(input.below(256));
    if (const auto whole = assembler.feed(part)) expect(whole->size() <= identity::kMaxRevocationSize);
  }
  return 0;
}
