#include "tessera/layout/box.h"

#include <algorithm>
#include <cassert>

namespace tessera {
namespace {

// Appends the boxes of [begin, end) in the tensor that `sizes` describes from dimension `dim` on; `at` holds the fixed
// indices before it. Head rows, one slab of full rows, tail rows.
void append_range(std::span<const int64_t> sizes, size_t dim, int64_t begin, int64_t end, Sizes& at, std::vector<Box>& boxes) {
  if (begin >= end) return;
  const auto add = [&](int64_t first, int64_t count) {
    Box box{at, Sizes(at.size(), 1)};
    if (dim < sizes.size()) {
      box.offsets.push_back(first);
      box.sizes.push_back(count);
      for (size_t d = dim + 1; d < sizes.size(); ++d) {
        box.offsets.push_back(0);
        box.sizes.push_back(sizes[d]);
      }
    }
    boxes.push_back(std::move(box));
  };
  if (dim + 1 >= sizes.size()) return add(begin, end - begin);
  const int64_t row = volume(sizes.subspan(dim + 1));
  const auto descend = [&](int64_t index, int64_t from, int64_t to) {
    at.push_back(index);
    append_range(sizes, dim + 1, from, to, at, boxes);
    at.pop_back();
  };
  int64_t first = begin / row;
  const int64_t last = end / row;
  if (first == last) return descend(first, begin % row, end % row);
  if (begin % row != 0) {
    descend(first, begin % row, row);
    ++first;
  }
  if (first < last) add(first, last - first);
  if (end % row != 0) descend(last, 0, end % row);
}

// The dimension whose indices are the rows; the first where there is none.
size_t row_dimension(std::span<const int64_t> sizes) {
  const auto more_than_one = std::ranges::find_if(sizes, [](int64_t size) { return size > 1; });
  return more_than_one == sizes.end() ? 0 : static_cast<size_t>(more_than_one - sizes.begin());
}

}  // namespace

Box whole(std::span<const int64_t> sizes) { return {Sizes(sizes.size(), 0), Sizes(sizes.begin(), sizes.end())}; }

int64_t volume(std::span<const int64_t> sizes) {
  int64_t product = 1;
  for (const int64_t size : sizes) product *= size;
  return product;
}

int64_t volume(const Box& box) { return volume(box.sizes); }

std::optional<Box> intersect(const Box& a, const Box& b) {
  assert(a.offsets.size() == b.offsets.size());
  for (size_t d = 0; d < a.offsets.size(); ++d) {
    if (std::max(a.offsets[d], b.offsets[d]) >= std::min(a.offsets[d] + a.sizes[d], b.offsets[d] + b.sizes[d])) return std::nullopt;
  }
  Box both{Sizes(a.offsets.size()), Sizes(a.offsets.size())};
  for (size_t d = 0; d < a.offsets.size(); ++d) {
    both.offsets[d] = std::max(a.offsets[d], b.offsets[d]);
    both.sizes[d] = std::min(a.offsets[d] + a.sizes[d], b.offsets[d] + b.sizes[d]) - both.offsets[d];
  }
  return both;
}

bool fits(const Box& box, std::span<const int64_t> sizes) {
  if (box.offsets.size() != sizes.size() || box.sizes.size() != sizes.size()) return false;
  for (size_t d = 0; d < sizes.size(); ++d) {
    if (box.offsets[d] < 0 || box.sizes[d] < 0) return false;
    if (box.offsets[d] > sizes[d] || box.sizes[d] > sizes[d] - box.offsets[d]) return false;
  }
  return true;
}

Box relative(const Box& inner, const Box& outer) {
  Box moved = inner;
  for (size_t d = 0; d < moved.offsets.size(); ++d) moved.offsets[d] -= outer.offsets[d];
  return moved;
}

int64_t rows_in(std::span<const int64_t> sizes) { return sizes.empty() ? 1 : sizes[row_dimension(sizes)]; }

Box slice(const Box& box, const Rows& rows) {
  if (rows.count < 0 && rows.first == 0) return box;
  assert(!box.sizes.empty());
  Box some = box;
  const size_t d = row_dimension(box.sizes);
  some.offsets[d] += rows.first;
  some.sizes[d] = rows.count < 0 ? box.sizes[d] - rows.first : rows.count;
  return some;
}

std::string to_string(std::span<const int64_t> sizes) {
  std::string text = "[";
  for (size_t d = 0; d < sizes.size(); ++d) text += (d ? ", " : "") + std::to_string(sizes[d]);
  return text + "]";
}

std::string to_string(const Box& box) {
  std::string text = "[";
  for (size_t d = 0; d < box.sizes.size(); ++d) {
    text += (d ? ", " : "") + std::to_string(box.offsets[d]) + ":" + std::to_string(box.offsets[d] + box.sizes[d]);
  }
  return text + "]";
}

std::vector<Box> boxes_of_range(std::span<const int64_t> sizes, int64_t begin, int64_t end) {
  assert(0 <= begin && end <= volume(sizes));
  std::vector<Box> boxes;
  Sizes at;
  append_range(sizes, 0, begin, end, at, boxes);
  return boxes;
}

}  // namespace tessera
