// tessera/layout/random_layouts.h: shapes, boxes and layouts for property tests, small enough to be tried element by element.
#pragma once

#include <rapidcheck.h>

#include <utility>
#include <vector>

#include "tessera/layout/box.h"
#include "tessera/layout/layout.h"

namespace tessera {

// Any of [begin, end), all as likely. (rapidcheck's own range begins with the smallest and seldom comes to the largest.)
template <class T>
rc::Gen<T> uniform(T begin, T end) {
  return rc::gen::resize(rc::kNominalSize, rc::gen::inRange<T>(begin, end));
}

// Up to `most_dims` dimensions of `least` to 5 elements.
inline rc::Gen<Sizes> any_sizes(int64_t least = 0, size_t most_dims = 4) {
  return rc::gen::mapcat(uniform<size_t>(0, most_dims + 1),
                         [=](size_t dims) { return rc::gen::container<Sizes>(dims, uniform<int64_t>(least, 6)); });
}

// A box inside a tensor of these sizes; it may be empty.
inline rc::Gen<Box> any_box(Sizes sizes) {
  return rc::gen::exec([sizes] {
    Box box;
    for (const int64_t size : sizes) {
      box.offsets.push_back(*uniform<int64_t>(0, size + 1));
      box.sizes.push_back(*uniform<int64_t>(0, size - box.offsets.back() + 1));
    }
    return box;
  });
}

// A mesh of up to 3 dimensions, and its ranks, that cuts a tensor of these sizes.
inline rc::Gen<std::pair<Grid, int>> any_grid(Sizes sizes) {
  return rc::gen::exec([sizes] {
    Grid grid;
    int ranks = 1;
    for (auto dims = *uniform<int>(0, 4); dims > 0; --dims) {
      Grid::Dim dim{.ranks = *uniform<int>(1, 4)};
      const int cut = *uniform<int>(-1, static_cast<int>(sizes.size()));
      if (cut >= 0) dim.shard = cut;
      ranks *= dim.ranks;
      grid.mesh.push_back(dim);
    }
    return std::pair(grid, ranks);
  });
}

// A layout of any kind, and the ranks that it is for.
struct AnySpread {
  Layout layout;
  int ranks = 1;
};
// How a tensor of these sizes lies on `ranks` ranks, or on as many as it likes where that is 0.
inline rc::Gen<AnySpread> any_spread(Sizes sizes, int ranks = 0) {
  return rc::gen::exec([sizes, ranks]() -> AnySpread {
    const int all = ranks > 0 ? ranks : *uniform<int>(1, 7);
    switch (*uniform<int>(0, 3)) {
      case 0: return {Replicated{}, all};
      case 1: {
        if (ranks == 0) {
          const auto [grid, count] = *any_grid(sizes);
          return {grid, count};
        }
        Grid grid{{{.ranks = ranks}}};
        const int cut = *uniform<int>(-1, static_cast<int>(sizes.size()));
        if (cut >= 0) grid.mesh[0].shard = cut;
        return {grid, ranks};
      }
      default: {
        const auto offset = *uniform<int64_t>(0, 20), after = *uniform<int64_t>(0, 20);
        // So many ranks a copy.
        const bool copied = *uniform<int>(0, 1) == 1 && all % 2 == 0;
        const int each = copied ? all / 2 : all;
        return {FlatRange{.offset = offset, .shard_numel = (offset + volume(sizes) + after + each - 1) / each, .ranks = copied ? each : 0},
                all};
      }
    }
  });
}

// The index of every element of a box, in row-major order.
inline std::vector<Sizes> elements_of(const Box& box) {
  std::vector<Sizes> elements = {{}};
  for (size_t d = 0; d < box.sizes.size(); ++d) {
    std::vector<Sizes> longer;
    for (const Sizes& index : elements) {
      for (int64_t i = 0; i < box.sizes[d]; ++i) {
        longer.push_back(index);
        longer.back().push_back(box.offsets[d] + i);
      }
    }
    elements = std::move(longer);
  }
  return elements;
}

}  // namespace tessera
