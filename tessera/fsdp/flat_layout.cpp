#include "tessera/fsdp/flat_layout.h"

#include <algorithm>
#include <utility>

#include "tessera/base/error.h"

namespace tessera {

Range FlatLayout::range(int rank) const {
  const int64_t begin = std::min(rank * shard_numel, numel);
  return {begin, std::min(begin + shard_numel, numel)};
}

Range FlatLayout::part(int rank, size_t index) const {
  const FlatParameter& parameter = parameters.at(index);
  const Range mine = range(rank);
  const int64_t begin = std::clamp(mine.begin - parameter.offset, int64_t{0}, parameter.numel);
  const int64_t end = std::clamp(mine.end - parameter.offset, begin, parameter.numel);
  return {begin, end};
}

int64_t FlatLayout::part_offset(int rank, size_t index) const {
  const Range mine = part(rank, index);
  return mine.size() == 0 ? 0 : parameters[index].offset + mine.begin - rank * shard_numel;
}

std::vector<FlatPiece> FlatLayout::pieces(int rank, size_t index) const {
  const FlatParameter& parameter = parameters.at(index);
  if (parameter.numel == 0) {
    if (rank != 0) return {};
    return {{whole(parameter.sizes), 0}};
  }
  const Range mine = part(rank, index);
  int64_t offset = part_offset(rank, index);
  std::vector<FlatPiece> pieces;
  for (Box& box : boxes_of_range(parameter.sizes, mine.begin, mine.end)) {
    const int64_t count = volume(box);
    pieces.push_back({std::move(box), offset});
    offset += count;
  }
  return pieces;
}

FlatLayout flat_layout(std::vector<FlatParameter> parameters, int world_size, int64_t alignment) {
  if (world_size < 1) throw Error({.code = Code::invalid_argument, .what = "a flat buffer needs at least one rank"});
  if (alignment < 1) throw Error({.code = Code::invalid_argument, .what = "the alignment of shards is at least one element"});
  FlatLayout layout{.parameters = std::move(parameters), .world_size = world_size, .alignment = alignment};
  for (FlatParameter& parameter : layout.parameters) {
    parameter.numel = volume(parameter.sizes);
    parameter.offset = layout.numel;
    layout.numel += parameter.numel;
  }
  const int64_t share = (layout.numel + world_size - 1) / world_size;
  layout.shard_numel = (share + alignment - 1) / alignment * alignment;
  layout.padded_numel = layout.shard_numel * world_size;
  return layout;
}

}  // namespace tessera
