#include "tessera/manifest/manifest.h"

#include <algorithm>
#include <numeric>

#include "tessera/base/checked.h"

namespace tessera {
namespace {

std::string quoted(const std::string& key) { return "'" + key + "'"; }

// Throws unless no two of the boxes overlap. Sweeps along the dimension that splits them most, so that the usual cases
// (rows, columns, flat ranges) compare only neighbours.
void check_overlap(const std::string& key, const std::vector<Box>& boxes, size_t dims, Code code) {
  std::vector<size_t> order;
  for (size_t i = 0; i < boxes.size(); ++i) {
    if (volume(boxes[i]) > 0) order.push_back(i);
  }
  if (order.size() < 2) return;
  const auto fail = [&](const Box& a, const Box& b) {
    throw Error({.code = code, .what = "boxes " + to_string(a) + " and " + to_string(b) + " of " + quoted(key) + " overlap"});
  };
  if (dims == 0) fail(boxes[order[0]], boxes[order[1]]);
  size_t axis = 0;
  size_t most = 0;
  for (size_t d = 0; d < dims; ++d) {
    std::vector<int64_t> starts;
    for (const size_t i : order) starts.push_back(boxes[i].offsets[d]);
    std::ranges::sort(starts);
    const size_t distinct = static_cast<size_t>(std::ranges::unique(starts).begin() - starts.begin());
    if (distinct > most) {
      most = distinct;
      axis = d;
    }
  }
  std::ranges::sort(order, {}, [&](size_t i) { return boxes[i].offsets[axis]; });
  std::vector<size_t> open;  // boxes that reach past the sweep line
  for (const size_t i : order) {
    const int64_t line = boxes[i].offsets[axis];
    std::erase_if(open, [&](size_t j) { return boxes[j].offsets[axis] + boxes[j].sizes[axis] <= line; });
    for (const size_t j : open) {
      if (intersect(boxes[i], boxes[j])) fail(boxes[j], boxes[i]);
    }
    open.push_back(i);
  }
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
  const auto fail = [&](const std::string& what) { throw Error({.code = Code::corrupt, .what = what + " of " + quoted(key), .file = ".metadata"}); };
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
    covered = checked_add(covered, volume(box), code);
  }
  check_overlap(key, boxes, sizes.size(), code);
  if (covered != total) {
    throw Error({.code = code, .what = "the boxes of " + quoted(key) + " hold " + std::to_string(covered) + " of the " + std::to_string(total) +
                                       " elements of shape " + to_string(sizes)});
  }
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
    checked_multiply(checked_volume(tensor.sizes), element_bytes(tensor.dtype));
  }
}

}  // namespace tessera
