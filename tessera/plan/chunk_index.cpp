#include "tessera/plan/chunk_index.h"

#include <algorithm>
#include <numeric>

namespace tessera {
namespace {

std::vector<int64_t> begins_along(const TensorEntry& entry, size_t d) {
  std::vector<int64_t> begins;
  for (const Chunk& chunk : entry.chunks) begins.push_back(chunk.box.offsets[d]);
  return begins;
}

size_t most_cut_axis(const TensorEntry& entry) {
  size_t axis = 0;
  size_t most = 0;
  for (size_t d = 0; d < entry.sizes.size(); ++d) {
    std::vector<int64_t> begins = begins_along(entry, d);
    std::ranges::sort(begins);
    const auto distinct = static_cast<size_t>(std::ranges::unique(begins).begin() - begins.begin());
    if (distinct > most) {
      most = distinct;
      axis = d;
    }
  }
  return axis;
}

}  // namespace

ChunkIndex::ChunkIndex(const TensorEntry& entry) : entry_(entry), order_(entry.chunks.size()) {
  if (entry.sizes.empty()) return;
  axis_ = most_cut_axis(entry);
  std::iota(order_.begin(), order_.end(), 0);
  std::ranges::stable_sort(order_, {}, [&](size_t c) { return entry.chunks[c].box.offsets[axis_]; });
  int64_t farthest = 0;
  for (const size_t c : order_) {
    const Box& box = entry.chunks[c].box;
    begins_.push_back(box.offsets[axis_]);
    ends_.push_back(farthest = std::max(farthest, box.offsets[axis_] + box.sizes[axis_]));
  }
}

std::vector<ChunkRead> ChunkIndex::cut(const Box& wanted) const {
  if (entry_.sizes.empty()) return tessera::cut(entry_, wanted);
  const int64_t begin = wanted.offsets[axis_];
  const int64_t end = begin + wanted.sizes[axis_];
  // Chunks before the first end at or before `begin`, all of them; those from the last on begin at or after `end`.
  const auto first = std::ranges::upper_bound(ends_, begin) - ends_.begin();
  const auto last = std::max(first, std::ranges::lower_bound(begins_, end) - begins_.begin());
  std::vector<size_t> near(order_.begin() + first, order_.begin() + last);
  std::ranges::sort(near);
  std::vector<ChunkRead> reads;
  for (const size_t c : near) add_read(c, entry_.chunks[c].box, wanted, reads);
  return reads;
}

}  // namespace tessera
