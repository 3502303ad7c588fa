// cli/pieces.h: a tensor's bytes in row-major order, in bounded memory however large the tensor is.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>

#include "cli/places.h"

namespace tessera::cli {

inline constexpr int64_t piece_bytes = int64_t{64} << 20;

// The box of at most `most` elements that comes next in row-major order after the first `begin` elements: as many rows as
// fit, never across an outer index. `begin` is where the piece before ended; begin < volume(sizes), most >= 1.
Box next_piece(std::span<const int64_t> sizes, int64_t begin, int64_t most);

// Room for one piece of a tensor; the same room serves piece after piece.
class PieceBuffer {
 public:
  // Reads `box` of the tensor; the bytes are row-major and stay until the next call.
  std::span<const std::byte> read(const NamedCheckpoint& checkpoint, const std::string& key, DType dtype, const Box& box);

 private:
  std::vector<std::byte> bytes_;
};

// Gives `take` every piece's box in order.
void for_each_piece(const TensorEntry& tensor, const std::function<void(const Box&)>& take);

}  // namespace tessera::cli
