// tessera/fsdp/flat_layout.h: where each parameter of a flat buffer lies, and which part of it each rank holds.
// Layout      Parameters lie one after the other, row-major and without gaps. Every rank holds one range of the same length:
//             ceil(n / world size) elements, rounded up to the alignment; what lies past n is padding.
// Units       Elements, in int64_t.
// Threads     Values; as safe as any value.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "tessera/layout/layout.h"

namespace tessera {

struct FlatParameter {
  std::string name;                  // relative to the unit's module: "attn.weight"
  std::vector<std::string> aliases;  // other names of the same tensor, in the order of registration
  Sizes sizes;
  int64_t numel = 0;
  int64_t offset = 0;  // in the flat buffer
  bool operator==(const FlatParameter&) const = default;
};

// [begin, end); empty where begin == end.
struct Range {
  int64_t begin = 0;
  int64_t end = 0;
  int64_t size() const { return end - begin; }
  bool operator==(const Range&) const = default;
};

// A box of a parameter, and where its first element lies in the shard; its elements follow without gaps, row-major.
struct FlatPiece {
  Box box;
  int64_t shard_offset = 0;
  bool operator==(const FlatPiece&) const = default;
};

struct FlatLayout {
  std::vector<FlatParameter> parameters;
  int world_size = 1;     // ranks that the buffer is split over; 1 when every rank holds all of it
  int64_t alignment = 1;  // shard_numel is a multiple of it
  int64_t numel = 0;      // without padding
  int64_t shard_numel = 0;
  int64_t padded_numel = 0;  // shard_numel · world_size
  int copies = 1;  // of the buffer, each split over so many neighbours; the ranks that hold one alone are numbered 0 to world_size - 1
  bool operator==(const FlatLayout&) const = default;

  // What `rank` holds, without padding; empty for ranks with padding only.
  Range range(int rank) const;
  // The part of range(rank) that lies in the parameter, counted from the parameter's first element.
  Range part(int rank, size_t index) const;
  // Where that part begins in the rank's shard; 0 where it is empty.
  int64_t part_offset(int rank, size_t index) const;
  // The part as boxes of the parameter, in row-major order. A parameter without elements is one empty box, on rank 0.
  std::vector<FlatPiece> pieces(int rank, size_t index) const;
  // How all ranks hold the parameter, and the buffer itself: pieces() and range() in words that a state dict knows.
  Layout layout_of(size_t index) const;
  Layout layout_of_buffer() const;
};

// Lays `parameters` out in their order: sizes and names are given, counts and offsets are filled in.
FlatLayout flat_layout(std::vector<FlatParameter> parameters, int world_size, int64_t alignment);

}  // namespace tessera
