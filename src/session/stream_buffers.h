// The two buffers of a stream, as lists of blocks. SendBuffer keeps bytes where they are until the peer
// acknowledged them, because ngtcp2 refers to them for retransmission (trap 13). ReceiveBuffer holds what was
// delivered in order and not yet consumed. Neither knows flow control. Thread rule: their connection's
// thread.
#pragma once

#include <span>

#include "base/bytes.h"
#include "session/block_pool.h"

struct ngtcp2_vec;

namespace ravine::session {

class SendBuffer {
 public:
  // Bytes written so far, handed to ngtcp2, and acknowledged: acknowledged ≤ sent ≤ end.
  std::uint64_t end() const { return end_; }
  std::uint64_t sent() const { return sent_; }
  std::uint64_t acknowledged() const { return acknowledged_; }
  std::uint64_t unsent() const { return end_ - sent_; }
  std::uint64_t held() const { return end_ - acknowledged_; }

  void write(BlockPool& pool, ByteView data);
  // A contiguous span of 1 to `wanted` bytes at the end. commit() what was filled before any other call.
  MutableBytes reserve(BlockPool& pool, std::size_t wanted);
  void commit(std::size_t size);  // requires size ≤ the span reserved

  // The first unsent bytes, until `wanted` are covered or `vectors` is full; returns vectors used and adds
  // their bytes.
  std::size_t unsent_vectors(std::span<ngtcp2_vec> vectors, std::size_t wanted, std::size_t& bytes) const;
  void mark_sent(std::size_t size);  // requires size ≤ unsent()
  // Everything before stream offset `offset` arrived; frees it. Ignores offsets beyond sent().
  void acknowledge(BlockPool& pool, std::uint64_t offset);
  void clear(BlockPool& pool);

 private:
  void append_block(BlockPool& pool, std::size_t wanted);
  Block* head_ = nullptr;  // begin of its first block = acknowledged, rounded down
  Block* tail_ = nullptr;
  Block* unsent_ = nullptr;  // block of sent_; null when nothing is unsent or sent_ is at a block's end
  std::uint32_t unsent_offset_ = 0;  // in unsent_
  std::uint64_t head_offset_ = 0;    // stream offset of head_'s begin
  std::uint64_t end_ = 0, sent_ = 0, acknowledged_ = 0;
};

class ReceiveBuffer {
 public:
  std::uint64_t size() const { return size_; }
  bool empty() const { return size_ == 0; }
  void append(BlockPool& pool, ByteView data);
  ByteView front() const {
    return head_ == nullptr ? ByteView{} : ByteView{head_->data() + head_->begin, head_->size()};
  }
  void consume(BlockPool& pool, std::size_t size);  // requires size ≤ size()
  void clear(BlockPool& pool);

 private:
  Block* head_ = nullptr;
  Block* tail_ = nullptr;
  std::uint64_t size_ = 0, carried_ = 0;
};

}  // namespace ravine::session
