#include "tessera/layout/layout.h"

#include <algorithm>
#include <cassert>

#include "tessera/base/checked.h"

namespace tessera {
namespace {

[[noreturn]] void refuse(const std::string& what) { throw Error({.code = Code::invalid_argument, .what = what}); }

// `boxes_in` gives what one rank holds of a tensor with elements, once `check` has found nothing wrong.

void check(const Replicated&, std::span<const int64_t>, int) {}
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

int ranks_of_a_copy(const FlatRange& range, int ranks) { return range.ranks == 0 ? ranks : range.ranks; }

void check(const FlatRange& range, std::span<const int64_t> sizes, int ranks) {
  const int64_t numel = volume(sizes);
  if (range.ranks < 0 || (range.ranks > 0 && ranks % range.ranks))
    refuse("a flat range of " + std::to_string(range.ranks) + " ranks where there are " + std::to_string(ranks));
  if (range.offset < 0 || range.shard_numel < 0) refuse("a flat range of a negative size");
  const int64_t buffer = checked_multiply(range.shard_numel, ranks_of_a_copy(range, ranks), Code::invalid_argument);
  if (range.offset > buffer || numel > buffer - range.offset)
    refuse("a flat range of " + std::to_string(numel) + " elements from " + std::to_string(range.offset) + " on, in a buffer of " +
           std::to_string(buffer));
}

// A tensor without elements is on the first of these.
int ranks_of_a_copy(const Replicated&, int) { return 1; }
int ranks_of_a_copy(const Grid&, int ranks) { return ranks; }

// Calls take(box) for each.
template <class Take>
void boxes_in(const Replicated&, std::span<const int64_t> sizes, int, int, Take take) {
  take(whole(sizes));
}

template <class Take>
void boxes_in(const Grid& grid, std::span<const int64_t> sizes, int rank, int ranks, Take take) {
  Box box = whole(sizes);
  int below = ranks;  // ranks that share the coordinates so far
  for (const Grid::Dim& dim : grid.mesh) {
    below /= dim.ranks;
    if (!dim.shard) continue;
    const int at = rank / below % dim.ranks;
    int64_t& size = box.sizes[static_cast<size_t>(*dim.shard)];
    const int64_t chunk = size / dim.ranks + (size % dim.ranks != 0);
    const int64_t begin = std::min(at * chunk, size);
    box.offsets[static_cast<size_t>(*dim.shard)] += begin;
    size = std::min(chunk, size - begin);
    if (size == 0) return;
  }
  take(std::move(box));
}

template <class Take>
void boxes_in(const FlatRange& range, std::span<const int64_t> sizes, int rank, int ranks, Take take) {
  const int64_t numel = volume(sizes);
  rank %= ranks_of_a_copy(range, ranks);
  const int64_t begin = std::clamp<int64_t>(rank * range.shard_numel - range.offset, 0, numel);
  const int64_t end = std::clamp<int64_t>((rank + 1) * range.shard_numel - range.offset, begin, numel);
  for (Box& box : boxes_of_range(sizes, begin, end)) take(std::move(box));
}

// take(rank, box) for each box of the ranks [first, last).
template <class Take>
void for_each_box(const Layout& layout, std::span<const int64_t> sizes, int first, int last, int ranks, Take take) {
  const bool empty = checked_volume(sizes, Code::invalid_argument) == 0;
  std::visit(
      [&](const auto& is) {
        check(is, sizes, ranks);
        const int each = ranks_of_a_copy(is, ranks);
        for (int r = first; r < last; ++r) {
          if (empty && r % each == 0) take(r, whole(sizes));
          if (!empty) boxes_in(is, sizes, r, ranks, [&](Box box) { take(r, std::move(box)); });
        }
      },
      layout);
}

void put(const Replicated& replicated, ByteWriter& out) { out.put(replicated.alike); }

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
  out.put(range.ranks);
}

}  // namespace

bool is_alike(const Layout& layout) {
  const auto* replicated = std::get_if<Replicated>(&layout);
  return !replicated || replicated->alike;
}

std::vector<Box> boxes_of(const Layout& layout, std::span<const int64_t> sizes, int rank, int ranks) {
  assert(0 <= rank && rank < ranks);
  std::vector<Box> boxes;
  for_each_box(layout, sizes, rank, rank + 1, ranks, [&](int, Box box) { boxes.push_back(std::move(box)); });
  return boxes;
}

std::vector<RankBox> boxes_of_all(const Layout& layout, std::span<const int64_t> sizes, int ranks) {
  std::vector<RankBox> boxes;
  boxes.reserve(static_cast<size_t>(ranks));
  for_each_box(layout, sizes, 0, ranks, ranks, [&](int rank, Box box) {
    const int32_t index = boxes.empty() || boxes.back().rank != rank ? 0 : boxes.back().index + 1;
    boxes.push_back({std::move(box), rank, index});
  });
  return boxes;
}

void encode(const Layout& layout, ByteWriter& out) {
  out.put(static_cast<uint8_t>(layout.index()));
  std::visit([&](const auto& is) { put(is, out); }, layout);
}

}  // namespace tessera
