// The label table against std::unordered_map: the same operations give the same answers, through growth, full
// chains and releases in the middle of them.
#include <unordered_map>

#include "forward/label_table.h"
#include "fuzz/fuzz_input.h"

using namespace ravine;
using forward::LabelTable;
using forward::Target;
using forward::TargetKind;
using fuzz::expect;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  fuzz::Input input({data, size});
  const std::size_t max_labels = 1 + input.below(300);
  LabelTable table(input.u16(), max_labels);
  std::unordered_map<std::uint64_t, Target> model;
  while (!input.empty()) {
    const std::uint8_t operation = input.u8();
    // Few distinct labels, so that operations meet each other; some of all bits.
    const Label label{(operation & 0x80) != 0 ? input.u64() : std::uint64_t{input.u8()} * 0x9e3779b97f4a7c15};
    const auto kind = static_cast<TargetKind>(1 + operation / 4 % 3);
    const Target target{kind, static_cast<std::uint8_t>(operation >> 3),
                        static_cast<std::uint32_t>(label.wire)};
    const auto found = model.find(label.wire);
    switch (operation % 4) {
      case 0: {
        const bool free = !label.is_none() && found == model.end() && model.size() < max_labels;
        expect(table.claim(label, target) == free);
        if (free) model.emplace(label.wire, target);
        break;
      }
      case 1:
        expect(table.replace(label, target) == (found != model.end()));
        if (found != model.end()) found->second = target;
        break;
      case 2:
        expect(table.release(label) == (found != model.end()));
        if (found != model.end()) model.erase(found);
        break;
      default:
        if (!label.is_none()) expect(table.find(label) == (found == model.end() ? Target{} : found->second));
    }
    expect(table.size() == model.size());
  }
  for (const auto& [wire, target] : model) expect(table.find(Label{wire}) == target);
  return 0;
}
