// tessera/transfer/read_box.h: a box of a tensor item, from its file into strided memory.
// Only the bytes that are needed are read, or a few more where that saves a system call (gaps up to a page). Where both
// sides are contiguous they are read straight into place; elsewhere through a slab of bounded size.
// Checks      The CRC-32 that the file has of an item's data is checked where that is read whole, front to back, in one call or in several
//             that share a CrcProgress; else, and where the file has none, the bytes count as unverified.
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

// How far the bytes of one item were read in order.
struct CrcProgress {
  int64_t next_bytes = -1;    // where a read must go on; -1 before the first
  uint32_t crc = 0;           // of what was read
  bool in_order = true;
  bool complete = false;      // all was read, and the CRC is right
  int64_t earlier_bytes = 0;  // counted as unverified by calls before the one that completed it
};

// Fills `into` (sizes as `from`) with box `from` of the item's tensor, byte-swapped, conjugated and negated as the item says,
// converted where the dtypes differ (plan/load_plan.h says which may).
ReadCount read_box(const ByteSource& item, const format::TensorItem& tensor, const Box& from, const View& into,
                   CrcProgress* progress = nullptr);

}  // namespace tessera
