#include "tessera/manifest/manifest.h"

#include <algorithm>
#include <limits>
#include <optional>
#include <random>
#include <utility>

#include "tessera/base/checked.h"

namespace tessera {
namespace {

std::string quoted(const std::string& key) { return "'" + key + "'"; }

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

bool tile(const std::vector<Box>& boxes, std::span<const int64_t> sizes) {
  uint64_t sum = 0;
  for (const Box& box : boxes) sum = (sum + print_of(box)) % prime;
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
// boxes that are made to be slow.
std::optional<std::pair<Box, Box>> find_overlap(const std::vector<Box>& boxes, size_t dims) {
  std::vector<const Box*> order;
  for (const Box& box : boxes) {
    if (volume(box) > 0) order.push_back(&box);
  }
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

// A relative path without anything that could lead out of the directory.
bool is_safe_file(const std::string& file) {
  if (file.empty() || file.front() == '/' || file.find('\0') != std::string::npos || file.find('\\') != std::string::npos) return false;
  for (size_t begin = 0; begin <= file.size();) {
    const size_t end = std::min(file.find('/', begin), file.size());
    const std::string name = file.substr(begin, end - begin);
    if (name.empty() || name == "." || name == "..") return false;
    begin = end + 1;
  }
  return true;
}

void check_extent(const std::string& key, const Extent& at) {
  const auto fail = [&](const std::string& what) {
    throw Error({.code = Code::corrupt, .what = what + " of " + quoted(key), .file = ".metadata"});
  };
  if (!is_safe_file(at.file)) fail("the unsafe file name '" + at.file + "'");
  if (at.offset_bytes < 0) fail("a negative file offset");
  if (at.length_bytes < 0) fail("a negative length");
  int64_t end = 0;
  if (__builtin_add_overflow(at.offset_bytes, at.length_bytes, &end)) fail("an offset + length beyond 64 bits");
}

}  // namespace

void check_tiling(const std::string& key, std::span<const int64_t> sizes, const std::vector<Box>& boxes, Code code) {
  int64_t total = 0;
  try {
    total = checked_volume(sizes, code);
  } catch (const Error& error) {
    throw Error({.code = code, .what = error.fault().what + " in the shape of " + quoted(key)});
  }
  int64_t covered = 0;
  for (const Box& box : boxes) {
    if (!fits(box, sizes)) {
      throw Error({.code = code, .what = "box " + to_string(box) + " of " + quoted(key) + " lies outside its shape " + to_string(sizes)});
    }
    if (__builtin_add_overflow(covered, volume(box), &covered)) covered = std::numeric_limits<int64_t>::max();
  }
  if (tile(boxes, sizes)) return;
  if (const auto pair = find_overlap(boxes, sizes.size())) {
    throw Error(
        {.code = code, .what = "boxes " + to_string(pair->first) + " and " + to_string(pair->second) + " of " + quoted(key) + " overlap"});
  }
  if (covered == total) throw Error({.code = code, .what = "the boxes of " + quoted(key) + " overlap"});
  throw Error({.code = code,
               .what = "the boxes of " + quoted(key) + " hold " + std::to_string(covered) + " of the " + std::to_string(total) +
                       " elements of shape " + to_string(sizes)});
}

void validate(const Manifest& manifest) {
  for (const auto& [key, entry] : manifest.entries) {
    if (const auto* object = std::get_if<ObjectEntry>(&entry.is)) {
      check_extent(key, object->at);
      continue;
    }
    const auto& tensor = std::get<TensorEntry>(entry.is);
    std::vector<Box> boxes;
    boxes.reserve(tensor.chunks.size());
    for (const Chunk& chunk : tensor.chunks) {
      check_extent(key, chunk.at);
      boxes.push_back(chunk.box);
    }
    check_tiling(key, tensor.sizes, boxes, Code::corrupt);
    int64_t bytes = 0;
    if (__builtin_mul_overflow(volume(tensor.sizes), element_bytes(tensor.dtype), &bytes)) {
      throw Error({.code = Code::corrupt, .what = "the bytes of " + quoted(key) + " overflow 64 bits"});
    }
  }
}

}  // namespace tessera
