#include "tessera/transfer/file_layout.h"

namespace tessera {

void FileLayout::add_object(int64_t length_bytes) {
  items.push_back({file_bytes, file_bytes, file_bytes + length_bytes, file_bytes + length_bytes, nullptr});
  file_bytes += length_bytes;
}

void FileLayout::add_tensor(DType dtype, const Sizes& sizes) {
  const format::ItemFrame& frame = frames.of(dtype, sizes);
  const int64_t data = file_bytes + frame.data_offset_bytes;
  items.push_back({file_bytes, data, data + frame.data_bytes, file_bytes + frame.length_bytes, &frame});
  file_bytes += frame.length_bytes;
}

}  // namespace tessera
