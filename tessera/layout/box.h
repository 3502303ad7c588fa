// tessera/layout/box.h: a region of a global tensor. The one geometric idea that saving and loading rest on.
// Units       Elements, in int64_t.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "tessera/layout/sizes.h"

namespace tessera {

// Same number of dimensions in both; a size may be 0, as in an empty shard.
struct Box {
  Sizes offsets;
  Sizes sizes;
  auto operator<=>(const Box&) const = default;
};

// The box that covers a tensor of these sizes.
Box whole(std::span<const int64_t> sizes);
// Elements in the box. The sizes are known to be sound.
int64_t volume(const Box& box);
int64_t volume(std::span<const int64_t> sizes);
// The part that both cover, or nothing if they only touch or either is empty. A box without dimensions meets itself.
std::optional<Box> intersect(const Box& a, const Box& b);
// True if the box lies inside a tensor of these sizes; an empty box may lie on the edge. Safe for any numbers.
bool fits(const Box& box, std::span<const int64_t> sizes);
// `inner` as seen from the corner of `outer`.
Box relative(const Box& inner, const Box& outer);

// Some rows of a box: indices of its first dimension that has more than one. In row-major order they are one range, as the box is.
struct Rows {
  int64_t first = 0;
  int64_t count = -1;  // -1: to the last
  bool operator==(const Rows&) const = default;
};
// How many a box of these sizes has: 1 where no dimension has more than one.
int64_t rows_in(std::span<const int64_t> sizes);
// These of its rows, at least one. They lie in the box.
Box slice(const Box& box, const Rows& rows);

// "[2, 3]" and "[0:2, 5:8]": for messages.
std::string to_string(std::span<const int64_t> sizes);
std::string to_string(const Box& box);

// The boxes of elements [begin, end) of a row-major tensor of these sizes, in row-major order: at most
// 2·dimensions − 1, none for an empty range. This is why a shard of a flat buffer needs no communication to be named.
std::vector<Box> boxes_of_range(std::span<const int64_t> sizes, int64_t begin, int64_t end);

}  // namespace tessera
