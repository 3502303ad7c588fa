// tessera/transfer/pieces.h: a tensor in row-major order, piece by piece, in bounded memory however large the tensor is.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "tessera/transfer/tensor_reader.h"

namespace tessera {

// The box of at most `most` elements that comes next in row-major order after the first `begin` elements: as many rows as
// fit, never across an outer index. `begin` is where the piece before ended; begin < volume(sizes), most >= 1.
Box next_piece(std::span<const int64_t> sizes, int64_t begin, int64_t most);

// Gives `take` the boxes of a tensor of these sizes in order, each of at most `most` elements.
void for_each_piece(std::span<const int64_t> sizes, int64_t most, const std::function<void(const Box&)>& take);

// Room for one piece of a tensor; the same room serves piece after piece.
class PieceBuffer {
 public:
  // Reads `box` as `dtype`; the bytes are row-major and stay until the next call.
  std::span<const std::byte> read(TensorReader& reader, const Box& box, DType dtype);

 private:
  std::vector<std::byte> bytes_;
};

}  // namespace tessera
