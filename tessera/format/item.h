// tessera/format/item.h: one item of a .distcp file: a complete torch.save archive of one tensor or one object.
// Source      torch 2.13's torch.save; layout in docs/format.md.
// Units       Bytes, relative to the start of the item.
// Errors      Reading throws Error(corrupt, unsupported or limit) with file and offset; it never reads outside the
//             item and never allocates from a number that the item's own size does not bear out.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include "tessera/base/byte_source.h"
#include "tessera/base/bytes.h"
#include "tessera/layout/box.h"
#include "tessera/layout/dtype.h"
#include "tessera/layout/value.h"

namespace tessera::format {

// The archive that we write for a tensor: head, then data (row-major, little-endian), then tail. Its length and all of its bytes but for
// the data and their CRC-32 follow from dtype and shape, so that every file offset and all of .metadata are known before the first byte is
// written. The CRC stands twice, as four bytes, least first; here they are zero.
struct ItemFrame {
  int64_t data_offset_bytes = 0;  // the head's length
  int64_t data_bytes = 0;
  int64_t length_bytes = 0;
  Bytes head;
  Bytes tail;
  int64_t head_crc_at = 0;  // in `head`
  int64_t tail_crc_at = 0;  // in `tail`
};
ItemFrame item_frame(DType dtype, std::span<const int64_t> sizes);
// Head and tail with their CRC.
Bytes item_head(DType dtype, std::span<const int64_t> sizes, uint32_t data_crc);
Bytes item_tail(DType dtype, std::span<const int64_t> sizes, uint32_t data_crc);

// What a tensor item says of itself. Element (i, j, …) stands at first_bytes + (i·strides[0] + j·strides[1] + …) · element size;
// all of them lie inside [data_offset_bytes, data_offset_bytes + data_bytes).
struct TensorItem {
  DType dtype = DType::float32;
  Sizes sizes;
  Sizes strides;
  int64_t first_bytes = 0;
  int64_t data_offset_bytes = 0;  // the storage record
  int64_t data_bytes = 0;
  std::optional<uint32_t> data_crc;  // of the storage record, if the file has one; not checked here
  bool big_endian = false;   // elements must be byte-swapped
  bool conjugate = false;    // the reader must conjugate, respectively negate, what it reads
  bool negative = false;
};
TensorItem read_tensor_item(const ByteSource& item);

// The archive of an object, and back. Every CRC of an object's archive is checked. An object that names what we do not
// decode comes back as Value::Opaque with its archive, and is written again unchanged.
Bytes write_object_item(const Value& value);
Value read_object_item(const ByteSource& item);

}  // namespace tessera::format
