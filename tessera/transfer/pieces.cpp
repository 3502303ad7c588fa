#include "tessera/transfer/pieces.h"

#include <algorithm>

namespace tessera {

Box next_piece(std::span<const int64_t> sizes, int64_t begin, int64_t most) {
  if (sizes.empty()) return {};
  size_t axis = 0;  // the piece has one index in each dimension before it, and all of those after it
  while (axis + 1 < sizes.size() && volume(sizes.subspan(axis + 1)) > most) ++axis;
  const int64_t row = volume(sizes.subspan(axis + 1));
  Box piece = whole(sizes);
  int64_t index = begin / row;
  piece.offsets[axis] = index % sizes[axis];
  piece.sizes[axis] = std::min(most / row, sizes[axis] - piece.offsets[axis]);
  index /= sizes[axis];
  for (size_t d = axis; d > 0; --d) {
    piece.offsets[d - 1] = index % sizes[d - 1];
    piece.sizes[d - 1] = 1;
    index /= sizes[d - 1];
  }
  return piece;
}

void for_each_piece(std::span<const int64_t> sizes, int64_t most, const std::function<void(const Box&)>& take) {
  const int64_t total = volume(sizes);
  for (int64_t begin = 0; begin < total;) {
    const Box piece = next_piece(sizes, begin, most);
    take(piece);
    begin += volume(piece);
  }
}

std::span<const std::byte> PieceBuffer::read(TensorReader& reader, const Box& box, DType dtype) {
  const auto count = static_cast<size_t>(volume(box) * element_bytes(dtype));
  if (bytes_.size() < count) bytes_.resize(count);
  reader.read(box, dense_view(bytes_.data(), dtype, box.sizes));
  return std::span(bytes_).first(count);
}

}  // namespace tessera
