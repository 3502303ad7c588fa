// tessera/transfer/tensor_reader.h: one tensor of a checkpoint, read box after box. Its items are opened once, and where the boxes come in
// row-major order and cover an item whole, its CRC-32 is checked although no single read saw all of it.
// Threads     One thread at a time; as many readers of one checkpoint as you like.
#pragma once

#include <map>
#include <memory>

#include "tessera/transfer/items.h"
#include "tessera/transfer/read_box.h"

namespace tessera {

class TensorReader {
 public:
  // The entry outlives this.
  TensorReader(std::shared_ptr<const Items> items, std::string key, const TensorEntry& entry)
      : items_(std::move(items)), key_(std::move(key)), entry_(entry) {}

  const TensorEntry& entry() const { return entry_; }
  // Fills `into` (sizes as the box) with that part of the tensor, converted where the dtypes differ.
  // Errors  Error(invalid_argument) for a box outside the tensor, a view that does not fit it, or dtypes that do not convert; what
  //         read_box says.
  void read(const Box& box, const View& into);
  // Of all reads so far.
  ReadCount count() const;

 private:
  struct Open {
    OpenItem item;
    CrcProgress crc;
  };

  const std::shared_ptr<const Items> items_;
  const std::string key_;
  const TensorEntry& entry_;
  std::map<size_t, Open> open_;  // by chunk
  ReadCount count_;
};

}  // namespace tessera
