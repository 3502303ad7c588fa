// tessera/transfer/file_layout.h: where each item of a rank's file stands, and the bytes around its data: all of it known from the plan.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "tessera/format/item_frames.h"

namespace tessera {

// An object is all data, and has no checksum of its own.
struct ItemPlace {
  int64_t begin_bytes = 0;
  int64_t data_begin_bytes = 0;
  int64_t data_end_bytes = 0;
  int64_t end_bytes = 0;
  const format::ItemFrame* frame = nullptr;  // in FileLayout::frames; null for an object
};

// Items stand in the file one after another from its first byte. Not copied: its items point into it.
struct FileLayout {
  std::string file;
  int64_t file_bytes = 0;
  std::vector<ItemPlace> items;
  format::ItemFrames frames;

  void add_object(int64_t length_bytes);
  void add_tensor(DType dtype, const Sizes& sizes);
};

}  // namespace tessera
