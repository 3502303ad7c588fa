#include "tessera/layout/view.h"

#include <algorithm>
#include <cstring>

namespace tessera {

Sizes row_major(std::span<const int64_t> sizes) {
  Sizes strides(sizes.size());
  int64_t step = 1;
  for (size_t d = sizes.size(); d > 0; --d) {
    strides[d - 1] = step;
    step *= std::max<int64_t>(1, sizes[d - 1]);
  }
  return strides;
}

View dense_view(std::byte* data, DType dtype, Sizes sizes, std::shared_ptr<void> owner) {
  Sizes strides = row_major(sizes);
  return {data, dtype, std::move(sizes), std::move(strides), std::move(owner)};
}

bool is_dense(const View& view) {
  if (volume(view.sizes) == 0) return true;
  int64_t step = 1;
  for (size_t d = view.sizes.size(); d > 0; --d) {
    if (view.sizes[d - 1] != 1 && view.strides[d - 1] != step) return false;
    step *= view.sizes[d - 1];
  }
  return true;
}

int64_t bytes_of(const View& view) { return volume(view.sizes) * element_bytes(view.dtype); }

View part(const View& view, const Box& box) {
  assert(fits(box, view.sizes));
  View piece = view;
  piece.sizes = box.sizes;
  if (volume(box) == 0) return piece;  // its corner may lie outside the memory, or there is none
  for (size_t d = 0; d < box.offsets.size(); ++d) piece.data += box.offsets[d] * view.strides[d] * element_bytes(view.dtype);
  return piece;
}

void copy(const View& from, const View& to) {
  assert(from.sizes == to.sizes && from.dtype == to.dtype);
  const int64_t each = element_bytes(from.dtype);
  for_each_run(from.sizes, from.strides, to.strides, [&](int64_t a, int64_t b, int64_t count) {
    std::memcpy(to.data + b * each, from.data + a * each, static_cast<size_t>(count * each));
  });
}

}  // namespace tessera
