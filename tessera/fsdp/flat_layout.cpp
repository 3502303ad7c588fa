#include "tessera/fsdp/flat_layout.h"

#include <algorithm>
#include <cassert>
#include <utility>

#include "tessera/base/checked.h"

namespace tessera {

FlatLayout flat_layout(std::vector<FlatParameter> parameters, int world_size, int64_t alignment) {
  assert(world_size >= 1 && alignment >= 1);
  FlatLayout layout{.parameters = std::move(parameters), .world_size = world_size, .alignment = alignment};
  for (FlatParameter& parameter : layout.parameters) {
    parameter.numel = checked_volume(parameter.sizes, Code::invalid_argument);
    parameter.offset = layout.numel;
    layout.numel = checked_add(layout.numel, parameter.numel, Code::invalid_argument);
  }
  const int64_t share = layout.numel / world_size + (layout.numel % world_size != 0);
  const int64_t steps = share / alignment + (share % alignment != 0);
  layout.shard_numel = checked_multiply(steps, alignment, Code::invalid_argument);
  layout.padded_numel = checked_multiply(layout.shard_numel, world_size, Code::invalid_argument);
  return layout;
}

Range FlatLayout::range(int rank) const {
  assert(0 <= rank && rank < world_size);
  const int64_t begin = std::min(rank * shard_numel, numel);
  return {begin, std::min(begin + shard_numel, numel)};
}

Range FlatLayout::part(int rank, size_t index) const {
  const FlatParameter& parameter = parameters.at(index);
  const Range mine = range(rank);
  const int64_t begin = std::clamp<int64_t>(mine.begin - parameter.offset, 0, parameter.numel);
  return {begin, std::clamp(mine.end - parameter.offset, begin, parameter.numel)};
}

int64_t FlatLayout::part_offset(int rank, size_t index) const {
  const Range mine = part(rank, index);
  return mine.size() == 0 ? 0 : parameters[index].offset + mine.begin - range(rank).begin;
}

Layout FlatLayout::layout_of(size_t index) const {
  if (world_size == 1) return Replicated{};
  return FlatRange{.offset = parameters.at(index).offset, .shard_numel = shard_numel, .ranks = copies > 1 ? world_size : 0};
}

Layout FlatLayout::layout_of_buffer() const {
  if (world_size == 1) return Replicated{};
  return FlatRange{.offset = 0, .shard_numel = shard_numel, .ranks = copies > 1 ? world_size : 0};
}

std::vector<FlatPiece> FlatLayout::pieces(int rank, size_t index) const {
  const FlatParameter& parameter = parameters.at(index);
  if (parameter.numel == 0) {
    if (rank != 0) return {};
    return {{whole(parameter.sizes), 0}};
  }
  const Range mine = part(rank, index);
  std::vector<FlatPiece> pieces;
  int64_t at = part_offset(rank, index);
  for (Box& box : boxes_of_range(parameter.sizes, mine.begin, mine.end)) {
    const int64_t count = volume(box);
    pieces.push_back({std::move(box), at});
    at += count;
  }
  return pieces;
}

}  // namespace tessera
