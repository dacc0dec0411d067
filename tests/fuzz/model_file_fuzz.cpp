// Model files: damage is refused without reading or writing out of place. The input stands for what follows a
// small model's tables: its counters.
#include "fuzz/fuzz_input.h"
#include "gateway/model/slot_file.h"

using namespace ravine;
using namespace ravine::gateway;
using fuzz::expect;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  std::vector<Slot> slots(1024);
  if (decode_slots({data, size}, slots)) {
    std::vector<Slot> again(slots.size());
    expect(decode_slots(encode_slots(slots), again));
    for (std::size_t i = 0; i < slots.size(); ++i)
      expect(slots[i].seen == again[i].seen && slots[i].check == again[i].check &&
             slots[i].one == again[i].one);
  }
  (void)Prior::decode({data, size}).ok();
  return 0;
}
