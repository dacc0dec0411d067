#include "session/stream_buffers.h"

#include <ngtcp2/ngtcp2.h>

#include <algorithm>
#include <cstring>

#include "base/ensure.h"

namespace ravine::session {

void SendBuffer::append_block(BlockPool& pool, std::size_t wanted) {
  Block* block = pool.take(end_, wanted);
  if (tail_ == nullptr) {
    head_ = block;
    head_offset_ = end_;
  } else {
    tail_->next = block;
  }
  tail_ = block;
}

MutableBytes SendBuffer::reserve(BlockPool& pool, std::size_t wanted) {
  if (tail_ == nullptr || tail_->room() == 0) append_block(pool, wanted);
  return {tail_->data() + tail_->end, std::min<std::size_t>(wanted, tail_->room())};
}

void SendBuffer::commit(std::size_t size) {
  if (size == 0) return;
  ensure(tail_ != nullptr && size <= tail_->room());
  if (unsent_ == nullptr) {
    unsent_ = tail_;
    unsent_offset_ = tail_->end;
  }
  tail_->end += static_cast<std::uint32_t>(size);
  end_ += size;
}

void SendBuffer::write(BlockPool& pool, ByteView data) {
  while (!data.empty()) {
    const MutableBytes room = reserve(pool, data.size());
    std::memcpy(room.data(), data.data(), room.size());
    commit(room.size());
    data = data.subspan(room.size());
  }
}

std::size_t SendBuffer::unsent_vectors(std::span<ngtcp2_vec> vectors, std::size_t wanted,
                                       std::size_t& bytes) const {
  std::size_t count = 0;
  std::uint32_t offset = unsent_offset_;
  for (Block* block = unsent_; block != nullptr && count < vectors.size() && bytes < wanted;
       block = block->next) {
    const std::size_t size = block->end - offset;
    if (size > 0) {
      vectors[count++] = {block->data() + offset, size};
      bytes += size;
    }
    offset = 0;
  }
  return count;
}

void SendBuffer::mark_sent(std::size_t size) {
  ensure(size <= unsent());
  sent_ += size;
  while (unsent_ != nullptr) {
    const std::size_t here = unsent_->end - unsent_offset_;
    if (size < here) {
      unsent_offset_ += static_cast<std::uint32_t>(size);
      return;
    }
    size -= here;
    unsent_ = unsent_->next;
    unsent_offset_ = 0;
  }
}

void SendBuffer::acknowledge(BlockPool& pool, std::uint64_t offset) {
  acknowledged_ = std::max(acknowledged_, std::min(offset, sent_));
  while (head_ != nullptr && head_offset_ + head_->end <= acknowledged_ && head_->end > 0) {
    Block* block = head_;
    head_offset_ += block->end;
    head_ = block->next;
    if (head_ == nullptr) tail_ = nullptr;
    pool.give(block);
  }
}

void SendBuffer::clear(BlockPool& pool) {
  while (head_ != nullptr) {
    Block* block = head_;
    head_ = block->next;
    pool.give(block);
  }
  tail_ = unsent_ = nullptr;
  acknowledged_ = sent_ = end_;
}

void ReceiveBuffer::append(BlockPool& pool, ByteView data) {
  size_ += data.size();
  carried_ += data.size();
  while (!data.empty()) {
    if (tail_ == nullptr || tail_->room() == 0) {
      Block* block = pool.take(carried_ - data.size(), data.size());
      (tail_ == nullptr ? head_ : tail_->next) = block;
      tail_ = block;
    }
    const std::size_t size = std::min<std::size_t>(data.size(), tail_->room());
    std::memcpy(tail_->data() + tail_->end, data.data(), size);
    tail_->end += static_cast<std::uint32_t>(size);
    data = data.subspan(size);
  }
}

void ReceiveBuffer::consume(BlockPool& pool, std::size_t size) {
  ensure(size <= size_);
  size_ -= size;
  while (size > 0) {
    const std::size_t here = std::min<std::size_t>(size, head_->size());
    head_->begin += static_cast<std::uint32_t>(here);
    size -= here;
    if (head_->size() > 0) return;
    Block* block = head_;
    head_ = block->next;
    if (head_ == nullptr) tail_ = nullptr;
    pool.give(block);
  }
}

void ReceiveBuffer::clear(BlockPool& pool) {
  while (head_ != nullptr) {
    Block* block = head_;
    head_ = block->next;
    pool.give(block);
  }
  tail_ = nullptr;
  size_ = 0;
}

}  // namespace ravine::session
