// fuzz/tensors.h: what every tensor that a reader found must satisfy.
#pragma once

#include "fuzz/properties.h"
#include "tessera/base/checked.h"
#include "tessera/base/digest.h"
#include "tessera/format/item.h"
#include "tessera/layout/view.h"
#include "tessera/transfer/read_box.h"

namespace tessera::fuzz {

inline constexpr int64_t most_elements = 4096;  // larger tensors are checked by arithmetic only

// All elements inside the storage, and the storage inside the source.
inline void check_places(const format::TensorItem& tensor, int64_t source_bytes) {
  require(tensor.strides.size() == tensor.sizes.size(), "one stride a dimension");
  require(tensor.data_bytes >= 0 && inside(tensor.data_offset_bytes, static_cast<uint64_t>(tensor.data_bytes), source_bytes),
          "the storage lies inside");
  const int64_t elements = checked_volume(tensor.sizes);
  if (elements == 0) return;
  const int64_t each = element_bytes(tensor.dtype);
  int64_t last = tensor.first_bytes;
  for (size_t d = 0; d < tensor.sizes.size(); ++d) {
    require(tensor.strides[d] >= 0, "strides are not negative");
    last = checked_add(last, checked_multiply(checked_multiply(tensor.sizes[d] - 1, tensor.strides[d]), each));
  }
  require(tensor.first_bytes >= tensor.data_offset_bytes, "the first element lies inside the storage");
  require(checked_add(last, each) <= tensor.data_offset_bytes + tensor.data_bytes, "the last element lies inside the storage");
}

// The elements in row-major order, or nothing for a tensor that is too large to be tried or whose CRC is wrong.
inline std::optional<Bytes> elements_of(const format::TensorItem& tensor, const ByteSource& source) {
  const int64_t elements = checked_volume(tensor.sizes);
  if (elements > most_elements) return std::nullopt;
  Bytes bytes(static_cast<size_t>(elements * element_bytes(tensor.dtype)));
  const View view = dense_view(bytes.data(), tensor.dtype, tensor.sizes);
  if (!accepted([&] { read_box(source, tensor, whole(tensor.sizes), view); }, {Code::corrupt})) return std::nullopt;
  return bytes;
}

// The archive that we write for these elements reads as what was written.
inline void check_written(DType dtype, const Sizes& sizes, const Bytes& elements) {
  const uint32_t crc = crc32(elements);
  Bytes item = format::item_head(dtype, sizes, crc);
  const Bytes tail = format::item_tail(dtype, sizes, crc);
  const format::ItemFrame frame = format::item_frame(dtype, sizes);
  require(static_cast<int64_t>(item.size()) == frame.data_offset_bytes, "the head is as long as planned");
  item.insert(item.end(), elements.begin(), elements.end());
  item.insert(item.end(), tail.begin(), tail.end());
  require(static_cast<int64_t>(item.size()) == frame.length_bytes, "the item is as long as planned");
  const MemorySource source(item, "again");
  const format::TensorItem again = format::read_tensor_item(source);
  require(again.dtype == dtype && again.sizes == sizes && again.data_crc == crc, "an item says what was written");
  require(elements_of(again, source) == elements, "an item holds what was written");
}

}  // namespace tessera::fuzz
