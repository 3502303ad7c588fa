// tessera/format/item_frames.h: item_frame() for many tensors, of which most have few shapes: each is worked out once.
// Memory      References stay good as long as the cache.
// Threads     One thread at a time.
#pragma once

#include <cstddef>
#include <unordered_map>
#include <utility>

#include "tessera/format/item.h"
#include "tessera/layout/sizes.h"

namespace tessera::format {

class ItemFrames {
 public:
  const ItemFrame& of(DType dtype, const Sizes& sizes) {
    if (last_ && last_->first.first == dtype && last_->first.second == sizes) return last_->second;
    const Shape shape(dtype, sizes);
    auto found = frames_.find(shape);
    if (found == frames_.end()) found = frames_.emplace(shape, item_frame(dtype, sizes)).first;
    last_ = &*found;
    return last_->second;
  }

 private:
  using Shape = std::pair<DType, Sizes>;
  struct Hash {
    size_t operator()(const Shape& shape) const {
      uint64_t hash = static_cast<uint64_t>(shape.first) + 1;
      for (const int64_t size : shape.second) {
        hash = (hash ^ static_cast<uint64_t>(size)) * 0x9e3779b97f4a7c15u;
        hash ^= hash >> 32;
      }
      return hash;
    }
  };
  std::unordered_map<Shape, ItemFrame, Hash> frames_;
  const std::pair<const Shape, ItemFrame>* last_ = nullptr;
};

}  // namespace tessera::format
