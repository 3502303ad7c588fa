// tessera/layout/layout.h: how a tensor is spread over all ranks, in so few words that each rank knows every rank's boxes from it.
// Replicated  Every rank holds the whole tensor.
// Grid        The ranks form a mesh, counted row-major (the last dimension first), as a DeviceMesh does. Along each of its dimensions they
//             hold the same, or each its chunk of one dimension of the tensor; several that cut the same one cut what the one before
//             left, from left to right. Chunks are those of torch.chunk: ceil(n / ranks) elements each, the last ones fewer or none.
// FlatRange   The tensor lies in a flat buffer, row-major and without gaps, of which rank r holds elements [r·shard, (r + 1)·shard). With
//             `ranks` that many ranks hold a buffer together, the next as many a copy of it, and so on: r counts from each first one.
// Promises    The boxes of all ranks tile the tensor; replicas are equal boxes. A rank whose part is empty has no box, but a tensor without
//             elements is one empty box: on rank 0, on the first rank of each copy of a buffer, and where it is replicated, on every rank.
// Units       Elements, in int64_t.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <variant>
#include <vector>

#include "tessera/base/bytes.h"
#include "tessera/layout/box.h"

namespace tessera {

struct Replicated {
  // False where nobody keeps the ranks' values equal: then one rank's are saved, those of the first, and not some rows of each.
  bool alike = true;
  bool operator==(const Replicated&) const = default;
};

struct Grid {
  struct Dim {
    int ranks = 1;
    std::optional<int> shard = {};  // which dimension of the tensor is cut; nothing where ranks along this one hold the same
    bool operator==(const Dim&) const = default;
  };
  std::vector<Dim> mesh;  // its ranks multiply to all ranks
  bool operator==(const Grid&) const = default;
};

struct FlatRange {
  int64_t offset = 0;  // of the tensor's first element in the buffer
  int64_t shard_numel = 0;  // what each rank holds of the buffer, padding included
  int ranks = 0;  // that hold a buffer together, a divisor of all ranks; 0: all
  bool operator==(const FlatRange&) const = default;
};

using Layout = std::variant<Replicated, Grid, FlatRange>;

// False of Replicated that says so.
bool is_alike(const Layout& layout);

// What `rank` of `ranks` holds of a tensor of these sizes, in row-major order.
// Errors  Error(invalid_argument) where the layout is none of such a tensor on so many ranks.
std::vector<Box> boxes_of(const Layout& layout, std::span<const int64_t> sizes, int rank, int ranks);

// A rank's box, and which of its boxes that is.
struct RankBox {
  Box box;
  int rank = 0;
  int32_t index = 0;
};
// What every rank holds, rank by rank: boxes_of() for all of them, with one look at whether they can be.
std::vector<RankBox> boxes_of_all(const Layout& layout, std::span<const int64_t> sizes, int ranks);

// Equal bytes for equal layouts, and for no others.
void encode(const Layout& layout, ByteWriter& out);

}  // namespace tessera
