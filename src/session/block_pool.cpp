#include "session/block_pool.h"

#include <algorithm>
#include <cstdlib>
#include <new>

#include "base/ensure.h"

namespace ravine::session {
namespace {

// Bytes of a block with its header, and how many free ones of a size are kept when none is in use (together
// at most 1.3 MB). As many free ones as are in use are kept beyond that: a busy stream's blocks would
// otherwise go to the system and come back, with a page fault per 4 KiB.
constexpr std::array<std::uint32_t, 3> kBlockBytes = {512, 4096, 65536};
constexpr std::array<std::size_t, 3> kKept = {512, 64, 12};

}  // namespace

BlockPool::~BlockPool() {
  for (FreeList& list : free_) {
    while (list.head != nullptr) {
      Block* block = list.head;
      list.head = block->next;
      std::free(block);
    }
  }
}

Block* BlockPool::take(std::uint64_t carried, std::size_t wanted) {
  const std::uint64_t scale = std::max<std::uint64_t>(carried, wanted);
  const std::uint32_t size_class = scale <= kBlockBytes[0] - sizeof(Block) ? 0 : scale <= 16384 ? 1 : 2;
  FreeList& list = free_[size_class];
  Block* block = list.head;
  if (block != nullptr) {
    list.head = block->next;
    --list.count;
  } else {
    void* memory = std::malloc(kBlockBytes[size_class]);
    ensure(memory != nullptr);
    block = new (memory) Block;
    block->size_class = size_class;
    block->capacity = kBlockBytes[size_class] - static_cast<std::uint32_t>(sizeof(Block));
  }
  block->next = nullptr;
  block->begin = block->end = 0;
  in_use_ += kBlockBytes[size_class];
  ++list.in_use;
  return block;
}

void BlockPool::give(Block* block) {
  const std::uint32_t size_class = block->size_class;
  FreeList& list = free_[size_class];
  in_use_ -= kBlockBytes[size_class];
  --list.in_use;
  if (list.count >= std::max(kKept[size_class], list.in_use)) {
    std::free(block);
    return;
  }
  block->next = list.head;
  list.head = block;
  ++list.count;
}

}  // namespace ravine::session
