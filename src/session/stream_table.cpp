#include "base/ensure.h"
#include "session/streams.h"

namespace ravine::session {

void EventQueue::push(EventKind kind, Stream* stream, std::uint64_t code) {
  const auto size = static_cast<std::uint32_t>(ring_.size());
  if (tail_ - head_ == size) {
    std::vector<Entry> larger(size == 0 ? 4 : std::size_t{2} * size);
    for (std::uint32_t i = 0; i < size; ++i) larger[i] = ring_[(head_ + i) & (size - 1)];
    ring_ = std::move(larger);
    head_ = 0;
    tail_ = size;
  }
  ring_[tail_++ & (ring_.size() - 1)] = {stream, code, kind};
}

EventQueue::Entry EventQueue::pop() {
  ensure(!empty());
  return ring_[head_++ & (ring_.size() - 1)];
}

Stream* StreamTable::find(StreamId id) const {
  if (size_ == 0) return nullptr;
  for (std::size_t slot = slot_of(id);; slot = (slot + 1) & (slots_.size() - 1)) {
    Stream* stream = slots_[slot];
    if (stream == nullptr || stream->id == id) return stream;
  }
}

void StreamTable::insert(Stream* stream) {
  if (2 * (size_ + 1) > slots_.size()) grow();
  std::size_t slot = slot_of(stream->id);
  while (slots_[slot] != nullptr) slot = (slot + 1) & (slots_.size() - 1);
  slots_[slot] = stream;
  ++size_;
}

void StreamTable::erase(StreamId id) {
  if (size_ == 0) return;
  const std::size_t mask = slots_.size() - 1;
  std::size_t hole = slot_of(id);
  while (slots_[hole] != nullptr && slots_[hole]->id != id) hole = (hole + 1) & mask;
  if (slots_[hole] == nullptr) return;
  --size_;
  // Backward shift: entries that probed past the hole move into it, so no tombstones pile up.
  for (std::size_t slot = (hole + 1) & mask; slots_[slot] != nullptr; slot = (slot + 1) & mask) {
    const std::size_t home = slot_of(slots_[slot]->id);
    if (((slot - home) & mask) < ((slot - hole) & mask)) continue;
    slots_[hole] = slots_[slot];
    hole = slot;
  }
  slots_[hole] = nullptr;
}

void StreamTable::grow() {
  const std::vector<Stream*> old = std::move(slots_);
  const std::size_t size = old.empty() ? 4 : 2 * old.size();
  slots_.assign(size, nullptr);
  shift_ = old.empty() ? 62 : shift_ - 1;
  size_ = 0;
  for (Stream* stream : old) {
    if (stream != nullptr) insert(stream);
  }
}

}  // namespace ravine::session
