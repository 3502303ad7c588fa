#include "tessera/layout/layout.h"

#include <algorithm>
#include <cassert>

#include "tessera/base/checked.h"

namespace tessera {
namespace {

[[noreturn]] void refuse(const std::string& what) { throw Error({.code = Code::invalid_argument, .what = what}); }

// A tensor without elements, where not every rank holds it.
std::vector<Box> empty_on_the_leader(std::span<const int64_t> sizes, int rank) {
  if (rank != 0) return {};
  return {whole(sizes)};
}

void check(const Grid& grid, std::span<const int64_t> sizes, int ranks) {
  int64_t all = 1;
  for (const Grid::Dim& dim : grid.mesh) {
    if (dim.ranks < 1) refuse("a mesh with a dimension of " + std::to_string(dim.ranks) + " ranks");
    all = checked_multiply(all, dim.ranks, Code::invalid_argument);
    if (dim.shard && (*dim.shard < 0 || static_cast<size_t>(*dim.shard) >= sizes.size()))
      refuse("a layout that cuts dimension " + std::to_string(*dim.shard) + " of the shape " + to_string(sizes));
  }
  if (all != ranks) refuse("a mesh of " + std::to_string(all) + " ranks where there are " + std::to_string(ranks));
}

std::vector<Box> boxes_in(const Replicated&, std::span<const int64_t> sizes, int, int) { return {whole(sizes)}; }

std::vector<Box> boxes_in(const Grid& grid, std::span<const int64_t> sizes, int rank, int ranks) {
  check(grid, sizes, ranks);
  if (volume(sizes) == 0) return empty_on_the_leader(sizes, rank);
  Box box = whole(sizes);
  int below = ranks;  // ranks that share the coordinates so far
  for (const Grid::Dim& dim : grid.mesh) {
    below /= dim.ranks;
    if (!dim.shard) continue;
    const int64_t at = rank / below % dim.ranks;
    int64_t& size = box.sizes[static_cast<size_t>(*dim.shard)];
    const int64_t chunk = size / dim.ranks + (size % dim.ranks != 0);
    const int64_t begin = std::min(at * chunk, size);
    box.offsets[static_cast<size_t>(*dim.shard)] += begin;
    size = std::min(chunk, size - begin);
    if (size == 0) return {};
  }
  return {box};
}

std::vector<Box> boxes_in(const FlatRange& range, std::span<const int64_t> sizes, int rank, int ranks) {
  const int64_t numel = volume(sizes);
  if (range.offset < 0 || range.shard_numel < 0) refuse("a flat range of a negative size");
  const int64_t buffer = checked_multiply(range.shard_numel, ranks, Code::invalid_argument);
  if (range.offset > buffer || numel > buffer - range.offset)
    refuse("a flat range of " + std::to_string(numel) + " elements from " + std::to_string(range.offset) + " on, in a buffer of " +
           std::to_string(buffer));
  if (numel == 0) return empty_on_the_leader(sizes, rank);
  const int64_t begin = std::clamp<int64_t>(rank * range.shard_numel - range.offset, 0, numel);
  const int64_t end = std::clamp<int64_t>((rank + 1) * range.shard_numel - range.offset, begin, numel);
  return boxes_of_range(sizes, begin, end);
}

void put(const Replicated&, ByteWriter&) {}

void put(const Grid& grid, ByteWriter& out) {
  out.put<uint64_t>(grid.mesh.size());
  for (const Grid::Dim& dim : grid.mesh) {
    out.put<int64_t>(dim.ranks);
    out.put(dim.shard.has_value());
    out.put<int64_t>(dim.shard.value_or(0));
  }
}

void put(const FlatRange& range, ByteWriter& out) {
  out.put(range.offset);
  out.put(range.shard_numel);
}

}  // namespace

std::vector<Box> boxes_of(const Layout& layout, std::span<const int64_t> sizes, int rank, int ranks) {
  assert(0 <= rank && rank < ranks);
  checked_volume(sizes, Code::invalid_argument);
  return std::visit([&](const auto& is) { return boxes_in(is, sizes, rank, ranks); }, layout);
}

void encode(const Layout& layout, ByteWriter& out) {
  out.put(static_cast<uint8_t>(layout.index()));
  std::visit([&](const auto& is) { put(is, out); }, layout);
}

}  // namespace tessera
