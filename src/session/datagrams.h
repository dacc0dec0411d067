// DatagramQueue: datagrams in order of arrival, in one ring of bytes that grows on demand up to its caps. One
// queue per direction. Thread rule: its connection's thread. RFC 9221.
#pragma once

#include <vector>

#include "base/bytes.h"

namespace ravine::session {

class DatagramQueue {
 public:
  DatagramQueue(std::size_t max_count, std::size_t max_bytes)
      : max_count_(max_count), max_bytes_(max_bytes) {}

  bool push(ByteView datagram);  // false: full, nothing changed
  bool empty() const { return head_ == tail_; }
  std::size_t count() const { return tail_ - head_; }
  std::size_t bytes() const { return bytes_; }
  bool is_half_empty() const { return 2 * count() <= max_count_ && 2 * bytes_ <= max_bytes_; }
  ByteView front() const;  // requires !empty(); valid until the next push or pop
  void pop();              // requires !empty()

 private:
  struct Entry {
    std::uint32_t offset, size;
  };
  Entry& entry(std::size_t index) { return entries_[index & (entries_.size() - 1)]; }
  bool place(std::size_t size, std::uint32_t& offset);
  void grow_storage(std::size_t wanted);

  std::size_t max_count_, max_bytes_;
  std::vector<Entry> entries_;  // ring; size is a power of two
  std::size_t head_ = 0, tail_ = 0;
  std::vector<std::uint8_t> storage_;  // ring of whole datagrams: one that does not fit the end starts at 0
  std::size_t write_at_ = 0;
  std::size_t bytes_ = 0;
};

}  // namespace ravine::session
