// tessera/plan/chunk_index.h: cut() for many boxes of one tensor: an interval search among its chunks in place of a look at each.
// Cost        To make: O(chunks · log chunks · dimensions). A cut: O(log chunks + chunks that cross the box's stretch of one dimension),
//             the one that the chunks are cut along most.
// Threads     A const object is safe to use from many.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "tessera/plan/load_plan.h"

namespace tessera {

class ChunkIndex {
 public:
  // Borrows the entry, which is that of a validated manifest.
  explicit ChunkIndex(const TensorEntry& entry);
  // What cut(entry, wanted) gives.
  std::vector<ChunkRead> cut(const Box& wanted) const;

 private:
  const TensorEntry& entry_;
  size_t axis_ = 0;
  std::vector<size_t> order_;    // of the chunks, by where they begin along the axis
  std::vector<int64_t> begins_;  // in that order
  std::vector<int64_t> ends_;    // the farthest so far
};

}  // namespace tessera
