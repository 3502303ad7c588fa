// tessera/layout/view.h: a strided piece of host memory, and how to walk it.
// Units       Sizes and strides are elements; counts that end in _bytes are bytes.
// Threads     A View borrows memory: whoever made it keeps the memory alive, or gives an `owner`.
#pragma once

#include <cassert>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "tessera/layout/box.h"
#include "tessera/layout/dtype.h"

namespace tessera {

struct View {
  std::byte* data = nullptr;  // element (0, …, 0); may be null when a size is 0
  DType dtype = DType::float32;
  Sizes sizes;
  Sizes strides;                      // never negative
  std::shared_ptr<void> owner = {};  // keeps `data` alive; empty when someone else does
};

// Row-major strides; dimensions of size 0 count as 1.
Sizes row_major(std::span<const int64_t> sizes);
// A row-major view of `data`.
View dense_view(std::byte* data, DType dtype, Sizes sizes, std::shared_ptr<void> owner = {});
// True if the elements lie one after the other in row-major order.
bool is_dense(const View& view);
int64_t bytes_of(const View& view);
// The part of the view that `box` names, relative to the view's corner. The box fits.
View part(const View& view, const Box& box);

// Walks two strided arrays of the same sizes together, in row-major order, in the longest runs that are contiguous in both.
// Calls run(offset_a, offset_b, count), all in elements.
template <class Run>
void for_each_run(std::span<const int64_t> sizes, std::span<const int64_t> strides_a, std::span<const int64_t> strides_b, Run run) {
  assert(sizes.size() == strides_a.size() && sizes.size() == strides_b.size());
  if (volume(sizes) == 0) return;
  // Fold dimensions from the back into one run for as long as both arrays go on without a gap.
  size_t dims = sizes.size();
  int64_t count = 1;
  while (dims > 0 && (sizes[dims - 1] == 1 || (strides_a[dims - 1] == count && strides_b[dims - 1] == count))) {
    count *= sizes[dims - 1];
    --dims;
  }
  Sizes index(dims, 0);
  int64_t a = 0;
  int64_t b = 0;
  for (;;) {
    run(a, b, count);
    size_t d = dims;
    for (; d > 0; --d) {
      a += strides_a[d - 1];
      b += strides_b[d - 1];
      if (++index[d - 1] < sizes[d - 1]) break;
      a -= strides_a[d - 1] * sizes[d - 1];
      b -= strides_b[d - 1] * sizes[d - 1];
      index[d - 1] = 0;
    }
    if (d == 0) return;
  }
}

// The view's bytes in row-major order, as contiguous runs: run(std::span<std::byte>).
template <class Run>
void for_each_run(const View& view, Run run) {
  const int64_t each = element_bytes(view.dtype);
  for_each_run(view.sizes, view.strides, row_major(view.sizes),
               [&](int64_t at, int64_t, int64_t count) { run(std::span(view.data + at * each, static_cast<size_t>(count * each))); });
}

// Copies element by element between views of the same sizes and dtype.
void copy(const View& from, const View& to);

}  // namespace tessera
