// What a paired gateway may put into a frame: the records of the thin link. What decodes says the same when
// it is encoded again.
#include "fuzz/fuzz_input.h"
#include "gateway/link/record.h"

using namespace ravine;
using fuzz::expect;
using namespace gateway::link;

namespace {

void expect_same(const std::optional<CodedRecord::Reset>& a, const std::optional<CodedRecord::Reset>& b) {
  expect(a.has_value() == b.has_value());
  if (!a) return;
  expect(a->epoch == b->epoch && a->floor == b->floor && a->first == b->first && a->coder == b->coder);
}

void check_coded(ByteView plaintext, Lane lane, AnswerBase base) {
  const auto record = decode_coded(plaintext, lane, base);
  if (!record) return;
  expect(!record->items.empty() && record->items.size() <= kMaxBatch);
  std::size_t bytes = record->tail.size();
  for (const CodedItem& item : record->items) bytes += item.coded.size();
  expect(bytes <= plaintext.size());
  // Low bits say nothing without a state, and a batch of one loses its mark.
  if (!record->whole || (record->items.size() == 1 && record->items[0].one_way)) return;
  const auto again = decode_coded(encode_coded(*record, false, base), lane, base);
  expect(again && again->whole && again->check == record->check);
  expect(again->state == record->state && again->unit == record->unit && again->named == record->named);
  expect(again->one_way == record->one_way && again->committed == record->committed);
  expect(again->tail == record->tail && again->items.size() == record->items.size());
  for (std::size_t i = 0; i < record->items.size(); ++i)
    expect(again->items[i].coded == record->items[i].coded &&
           again->items[i].one_way == record->items[i].one_way);
  expect_same(again->reset, record->reset);
}

void check_others(ByteView plaintext) {
  if (const auto part = decode_fragment_record(plaintext)) {
    const Bytes bytes = encode_fragment_record(*part);
    const auto again = decode_fragment_record(bytes);
    expect(again && again->transfer == part->transfer && again->index == part->index);
    expect(again->last == part->last && to_bytes(again->part) == to_bytes(part->part));
  }
  if (const auto status = decode_status(plaintext)) {
    const auto again = decode_status(encode_status(*status));
    expect(again && again->transfer == status->transfer && again->first_missing == status->first_missing);
    expect(again->bitmap == status->bitmap);
    for (std::uint32_t i = 0; i < 300; ++i) expect(again->has(i) == status->has(i));
  }
  if (const auto control = decode_control(plaintext)) {
    expect(control->coders.size() <= kMaxCoders);
    const auto again = decode_control(encode_control(*control));
    expect(again && again->type == control->type && again->recode == control->recode);
    expect(again->state == control->state && again->check == control->check);
    expect(again->coders == control->coders && again->skip.has_value() == control->skip.has_value());
    expect_same(again->reset, control->reset);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  fuzz::Input in(ByteView(data, size));
  const auto lane = static_cast<Lane>(in.below(3));
  const AnswerBase base{in.u8()};
  const ByteView plaintext = in.rest();
  if (!record_type(plaintext)) {
    expect(plaintext.empty());
    return 0;
  }
  check_coded(plaintext, lane, base);
  check_others(plaintext);
  return 0;
}
