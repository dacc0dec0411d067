#include "session/datagrams.h"

#include <algorithm>
#include <cstring>

#include "base/ensure.h"

namespace ravine::session {

// Finds room after the newest datagram, or at the start of the storage when the end is too short.
bool DatagramQueue::place(std::size_t size, std::uint32_t& offset) {
  const std::size_t oldest = empty() ? 0 : entry(head_).offset;
  if (empty()) write_at_ = 0;
  const bool wrapped = !empty() && write_at_ <= oldest;
  if (!wrapped && storage_.size() - write_at_ >= size) {
    offset = static_cast<std::uint32_t>(write_at_);
    return true;
  }
  const std::size_t start = wrapped ? write_at_ : 0;
  if (empty() || oldest - start < size + 1) return false;  // +1: a full ring differs from an empty one
  offset = static_cast<std::uint32_t>(start);
  return true;
}

void DatagramQueue::grow_storage(std::size_t wanted) {
  std::vector<std::uint8_t> larger(std::max<std::size_t>(4096, 2 * (storage_.size() + wanted)));
  std::size_t at = 0;
  for (std::size_t i = head_; i != tail_; ++i) {
    Entry& moved = entry(i);
    std::memcpy(larger.data() + at, storage_.data() + moved.offset, moved.size);
    moved.offset = static_cast<std::uint32_t>(at);
    at += std::max<std::uint32_t>(moved.size, 1);
  }
  storage_ = std::move(larger);
  write_at_ = at;
}

bool DatagramQueue::push(ByteView datagram) {
  if (count() >= max_count_ || bytes_ + datagram.size() > max_bytes_) return false;
  if (count() == entries_.size()) {
    std::vector<Entry> larger(std::max<std::size_t>(16, 2 * entries_.size()));
    for (std::size_t i = head_; i != tail_; ++i) larger[i & (larger.size() - 1)] = entry(i);
    entries_ = std::move(larger);
  }
  // An empty datagram takes a byte, so that offsets stay distinct.
  const std::size_t taken = std::max<std::size_t>(datagram.size(), 1);
  std::uint32_t offset = 0;
  if (!place(taken, offset)) {
    grow_storage(taken);
    ensure(place(taken, offset));
  }
  if (!datagram.empty()) std::memcpy(storage_.data() + offset, datagram.data(), datagram.size());
  write_at_ = offset + taken;
  entry(tail_++) = {offset, static_cast<std::uint32_t>(datagram.size())};
  bytes_ += datagram.size();
  return true;
}

ByteView DatagramQueue::front() const {
  ensure(!empty());
  const Entry& first = entries_[head_ & (entries_.size() - 1)];
  return {storage_.data() + first.offset, first.size};
}

void DatagramQueue::pop() {
  ensure(!empty());
  bytes_ -= entry(head_).size;
  ++head_;
}

}  // namespace ravine::session
