#include "tessera/plan/chunk_index.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>

#include "tessera/layout/random_layouts.h"

namespace tessera {
namespace {

// Boxes that tile nothing in particular: what is found must not depend on it.
RC_GTEST_PROP(ChunkIndex, FindsInAnyBoxesWhatALookAtEachFinds, ()) {
  const Sizes sizes = *any_sizes();
  TensorEntry entry{DType::float32, sizes, {}};
  for (int n = *uniform(0, 20); n > 0; --n) entry.chunks.push_back({*any_box(sizes), {"f", 0, 1}});
  const ChunkIndex index(entry);
  for (int n = 0; n < 10; ++n) {
    const Box wanted = *any_box(sizes);
    RC_ASSERT(index.cut(wanted) == cut(entry, wanted));
  }
}

// Guillotine cuts, in any order.
RC_GTEST_PROP(ChunkIndex, FindsInAnyTilingWhatALookAtEachFinds, ()) {
  const Sizes sizes = *any_sizes(1);
  std::vector<Box> boxes = {whole(sizes)};
  for (int cuts = sizes.empty() ? 0 : *uniform(0, 12); cuts > 0; --cuts) {
    const auto which = *uniform<size_t>(0, boxes.size());
    const auto d = *uniform<size_t>(0, sizes.size());
    const int64_t first = *uniform<int64_t>(0, boxes[which].sizes[d] + 1);
    Box second = boxes[which];
    second.offsets[d] += first;
    second.sizes[d] -= first;
    boxes[which].sizes[d] = first;
    boxes.insert(boxes.begin() + *uniform<std::ptrdiff_t>(0, std::ssize(boxes) + 1), second);
  }
  TensorEntry entry{DType::float32, sizes, {}};
  for (const Box& box : boxes) entry.chunks.push_back({box, {"f", 0, 1}});
  const ChunkIndex index(entry);
  const Box wanted = *any_box(sizes);
  RC_ASSERT(index.cut(wanted) == cut(entry, wanted));
}

// To look at each chunk for each box would be 10^10 looks: the time limit of the whole program catches it.
TEST(ChunkIndex, ManyBoxesOfManyChunksAreNoBurden) {
  constexpr int64_t chunks = 100'000;
  TensorEntry entry{DType::float32, {4, chunks}, {}};
  for (int64_t c = 0; c < chunks; ++c) entry.chunks.push_back({{{0, c}, {4, 1}}, {"f", 0, 1}});
  const ChunkIndex index(entry);
  for (int64_t c = 0; c + 1 < chunks; ++c) ASSERT_EQ(index.cut({{1, c}, {2, 2}}).size(), 2u);
}

}  // namespace
}  // namespace tessera
