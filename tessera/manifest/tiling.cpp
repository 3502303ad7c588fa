// check_tiling(): do boxes cover a tensor, each element once? Two cheap answers for the usual cuts, an exact one for all others, and a
// search for the two that overlap, which only a refusal pays for.
#include <algorithm>
#include <limits>
#include <optional>
#include <random>
#include <utility>

#include "tessera/base/checked.h"
#include "tessera/layout/view.h"
#include "tessera/manifest/manifest.h"

namespace tessera {
namespace {

const Box& box_of(const Box& box) { return box; }
const Box& box_of(const Chunk& chunk) { return chunk.box; }

// True if the boxes are, in this order and seen in row-major order, one range after another from the first element to the last: rows, and
// the ranges of a flat buffer.
template <class Boxes>
bool follow_in_row_major_order(const Boxes& boxes, std::span<const int64_t> sizes) {
  const Sizes strides = row_major(sizes);
  int64_t next = 0;
  for (const auto& one : boxes) {
    const Box& box = box_of(one);
    if (!fits(box, sizes)) return false;
    if (volume(box) == 0) continue;
    int64_t begin = 0;
    int64_t count = 1;
    for (size_t d = 0; d < sizes.size(); ++d) {
      // One index of each dimension, then a stretch of one, then all of each.
      if (count > 1 && box.sizes[d] != sizes[d]) return false;
      begin += box.offsets[d] * strides[d];
      count *= box.sizes[d];
    }
    if (begin != next) return false;
    next += count;
  }
  return next == volume(sizes);
}

// True if they are slices across the tensor, in this order one after another along one dimension.
template <class Boxes>
bool follow_along_one_dimension(const Boxes& boxes, std::span<const int64_t> sizes) {
  std::optional<size_t> axis;
  int64_t next = 0;
  for (const auto& one : boxes) {
    const Box& box = box_of(one);
    if (!fits(box, sizes)) return false;
    if (volume(box) == 0) continue;
    for (size_t d = 0; d < sizes.size(); ++d) {
      if (box.sizes[d] == sizes[d]) continue;
      if (axis && *axis != d) return false;
      axis = d;
    }
    if (!axis || box.offsets[*axis] != next) return false;
    next += box.sizes[*axis];
  }
  return axis && next == sizes[*axis];
}

// A random number for (dimension, coordinate), always the same within one process and never known outside it.
uint64_t random_at(uint64_t dimension, int64_t coordinate) {
  static const uint64_t secret = (uint64_t{std::random_device{}()} << 32) | std::random_device{}();
  const auto mix = [](uint64_t x) {  // splitmix64's finalizer
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
  };
  return mix(mix(mix(secret + dimension * 0x9e3779b97f4a7c15u) ^ static_cast<uint64_t>(coordinate)) + secret);
}

constexpr uint64_t prime = (uint64_t{1} << 61) - 1;

// A number that adds up: when boxes tile a larger one exactly, their prints sum to its print modulo `prime`; when they
// do not, the sums differ but for a chance of about one in 10^17. (Over the corners of each box, with the sign of a mixed
// difference, it sums a product of random numbers, one a coordinate. All corners but those of the whole cancel exactly when
// every element is covered once; if they do not, a polynomial that is not zero would have to vanish at a random point.)
uint64_t print_of(const Box& box) {
  uint64_t product = 1;
  for (size_t d = 0; d < box.sizes.size(); ++d) {
    const uint64_t begin = random_at(d, box.offsets[d]) % prime;
    const uint64_t end = random_at(d, box.offsets[d] + box.sizes[d]) % prime;
    product = static_cast<uint64_t>(static_cast<unsigned __int128>(product) * (end + prime - begin) % prime);
  }
  return product;
}

template <class Boxes>
bool prints_add_up(const Boxes& boxes, std::span<const int64_t> sizes) {
  uint64_t sum = 0;
  for (const auto& one : boxes) sum = (sum + print_of(box_of(one))) % prime;
  return sum == print_of(whole(sizes)) % prime;
}

// True if the boxes share an element; neither is empty.
bool meet(const Box& a, const Box& b) {
  for (size_t d = 0; d < a.offsets.size(); ++d) {
    if (a.offsets[d] >= b.offsets[d] + b.sizes[d] || b.offsets[d] >= a.offsets[d] + a.sizes[d]) return false;
  }
  return true;
}

size_t most_split_axis(const std::vector<const Box*>& boxes, size_t dims) {
  size_t axis = 0;
  size_t most = 0;
  for (size_t d = 0; d < dims; ++d) {
    std::vector<int64_t> starts;
    for (const Box* box : boxes) starts.push_back(box->offsets[d]);
    std::ranges::sort(starts);
    const size_t distinct = static_cast<size_t>(std::ranges::unique(starts).begin() - starts.begin());
    if (distinct > most) {
      most = distinct;
      axis = d;
    }
  }
  return axis;
}

// Looks for two boxes that overlap, in order to name them. Sweeps along the dimension that splits them most, so that the
// usual cases (rows, columns, flat ranges) compare only neighbours; gives up after so many comparisons, as a file may hold
// boxes that are made to be slow. Sorts `order`, boxes with elements.
std::optional<std::pair<Box, Box>> find_overlap(std::vector<const Box*> order, size_t dims) {
  if (order.size() < 2) return std::nullopt;
  if (dims == 0) return std::pair(*order[0], *order[1]);
  const size_t axis = most_split_axis(order, dims);
  std::ranges::sort(order, {}, [&](const Box* box) { return box->offsets[axis]; });
  int64_t left = 20'000'000;
  std::vector<const Box*> open;  // boxes that reach past the sweep line
  for (const Box* box : order) {
    const int64_t line = box->offsets[axis];
    std::erase_if(open, [&](const Box* other) { return other->offsets[axis] + other->sizes[axis] <= line; });
    for (const Box* other : open) {
      if (meet(*box, *other)) return std::pair(*other, *box);
    }
    left -= static_cast<int64_t>(open.size()) + 1;
    if (left < 0) return std::nullopt;
    open.push_back(box);
  }
  return std::nullopt;
}

template <class Boxes>
void check(const std::string& key, std::span<const int64_t> sizes, const Boxes& boxes, Code code) {
  const auto fail = [&](std::string what) { throw Error({.code = code, .what = std::move(what)}); };
  const std::string quoted = "'" + key + "'";
  int64_t total = 0;
  try {
    total = checked_volume(sizes, code);
  } catch (const Error& error) {
    fail(error.fault().what + " in the shape of " + quoted);
  }
  if (follow_in_row_major_order(boxes, sizes) || follow_along_one_dimension(boxes, sizes)) return;
  for (const auto& one : boxes) {
    const Box& box = box_of(one);
    if (!fits(box, sizes)) fail("box " + to_string(box) + " of " + quoted + " lies outside its shape " + to_string(sizes));
  }
  if (prints_add_up(boxes, sizes)) return;
  int64_t covered = 0;
  std::vector<const Box*> order;
  for (const auto& one : boxes) {
    const Box& box = box_of(one);
    if (__builtin_add_overflow(covered, volume(box), &covered)) covered = std::numeric_limits<int64_t>::max();
    if (volume(box) > 0) order.push_back(&box);
  }
  if (const auto pair = find_overlap(std::move(order), sizes.size()))
    fail("boxes " + to_string(pair->first) + " and " + to_string(pair->second) + " of " + quoted + " overlap");
  if (covered == total) fail("the boxes of " + quoted + " overlap");
  fail("the boxes of " + quoted + " hold " + std::to_string(covered) + " of the " + std::to_string(total) + " elements of shape " +
       to_string(sizes));
}

}  // namespace

void check_tiling(const std::string& key, std::span<const int64_t> sizes, const std::vector<Box>& boxes, Code code) {
  check(key, sizes, boxes, code);
}
void check_tiling(const std::string& key, const TensorEntry& entry, Code code) { check(key, entry.sizes, entry.chunks, code); }

}  // namespace tessera
