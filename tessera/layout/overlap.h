// tessera/layout/overlap.h: memory that is written through more than one element: what a load must not fill without looking twice.
// Exact: strided views whose extents interleave, as two halves of the same rows, do not overlap.
// Cost        A sort of the views. Only views whose extents meet, or whose strides do not show their elements apart, are walked run by run.
#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "tessera/layout/view.h"

namespace tessera {

struct Overlaps {
  // (first, again): views that are the same memory element by element, as tied tensors are.
  std::vector<std::pair<size_t, size_t>> same;
  // Two others that share an element, or one view that holds an element twice, as an expanded tensor does.
  std::optional<std::pair<size_t, size_t>> partly;
};

// Indices of `views`.
Overlaps overlaps(std::span<const View> views);

}  // namespace tessera
