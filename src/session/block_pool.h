// Blocks: the memory of stream buffers, in three sizes, recycled. One pool serves all connections of an
// endpoint, so that an idle connection holds nothing. Thread rule: one thread.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "base/bytes.h"

namespace ravine::session {

// A piece of a stream: bytes [begin, end) of `data()` are in use. A singly linked list of blocks is a buffer.
struct Block {
  Block* next = nullptr;
  std::uint32_t capacity = 0;  // bytes of data()
  std::uint32_t begin = 0, end = 0;
  std::uint32_t size_class = 0;

  std::uint8_t* data() { return reinterpret_cast<std::uint8_t*>(this + 1); }
  std::uint32_t size() const { return end - begin; }
  std::uint32_t room() const { return capacity - end; }
};

class BlockPool {
 public:
  BlockPool() = default;
  ~BlockPool();
  BlockPool(const BlockPool&) = delete;
  BlockPool& operator=(const BlockPool&) = delete;

  // A block for a buffer that has carried `carried` bytes and now needs `wanted` (≥ 1) more: small streams
  // get small blocks, busy ones large ones. Capacity may be less than wanted.
  Block* take(std::uint64_t carried, std::size_t wanted);
  void give(Block* block);
  std::size_t bytes_in_use() const { return in_use_; }  // handed out, with headers

 private:
  struct FreeList {
    Block* head = nullptr;
    std::size_t count = 0;   // free
    std::size_t in_use = 0;  // handed out
  };
  std::array<FreeList, 3> free_;
  std::size_t in_use_ = 0;
};

}  // namespace ravine::session
