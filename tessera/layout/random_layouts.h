// tessera/layout/random_layouts.h: shapes and boxes for property tests, small enough to be tried element by element.
#pragma once

#include <rapidcheck.h>

#include <vector>

#include "tessera/layout/box.h"

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
