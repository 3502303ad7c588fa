// tessera/transfer/read_box.h: a box of a tensor item, from its file into strided memory.
// Only the bytes that are needed are read, or a few more where that saves a system call (gaps up to a page). Where both
// sides are contiguous they are read straight into place; elsewhere through a slab of bounded size.
// Checks      The CRC-32 of the archive is checked where the item's data is read whole; else its bytes count as unverified.
// Errors      Error(corrupt) with file and offset. The destination's content is undefined after a failure.
#pragma once

#include <cstdint>

#include "tessera/base/byte_source.h"
#include "tessera/format/item.h"
#include "tessera/layout/view.h"

namespace tessera {

struct ReadCount {
  int64_t read_bytes = 0;
  int64_t unverified_bytes = 0;  // of these, not covered by a CRC that was checked
  ReadCount& operator+=(const ReadCount& other) {
    read_bytes += other.read_bytes;
    unverified_bytes += other.unverified_bytes;
    return *this;
  }
};

// Fills `into` (sizes as `from`) with box `from` of the item's tensor, byte-swapped, conjugated and negated as the item says,
// converted where the dtypes differ (plan/load_plan.h says which may).
ReadCount read_box(const ByteSource& item, const format::TensorItem& tensor, const Box& from, const View& into);

}  // namespace tessera
