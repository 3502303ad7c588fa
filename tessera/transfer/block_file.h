// tessera/transfer/block_file.h: a data file on its way to disk, block by block. Whoever has the bytes cuts them into blocks (BlockCutter);
// whoever drains them (BlockFile) takes the checksums, puts those that stand before their data in place, and writes each block once. The
// two may be one thread, so that a block is hashed while it is in cache, or two with a ring of slabs between them. Promises    A digest is
// of the bytes that were given to the disk, taken before they were. Memory      At most `held_blocks` blocks wait for a checksum: those in
// which the head of an unfinished item stands. Errors      Error(io, no_space, no_memory) with file and offset; what a ring was stopped
// with.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "tessera/base/digest.h"
#include "tessera/layout/box.h"
#include "tessera/layout/dtype.h"
#include "tessera/storage/storage.h"
#include "tessera/transfer/slab_ring.h"

namespace tessera {

// How much of a file one digest covers: it stays in cache between checksum, digest and write. Larger costs more where a part of a tensor is
// read, smaller costs more in the sidecar.
inline constexpr int64_t block_bytes = int64_t{1} << 20;
// A head is a few hundred bytes: it stands in two blocks at most.
inline constexpr int held_blocks = 2;
// Held, being filled, and one to go on with.
inline constexpr int least_slabs = held_blocks + 2;

struct Block {
  int64_t begin_bytes = 0;  // in the file
  std::span<const std::byte> bytes;
  Slab slab = {};  // owns the bytes; none where they lie in somebody's tensor, and are not to be changed
};

// Where an item and its data stand in the file. An object is all data without a checksum of its own.
struct ItemPlace {
  int64_t begin_bytes = 0;
  int64_t data_begin_bytes = 0;
  int64_t data_end_bytes = 0;
  int64_t end_bytes = 0;
  DType dtype = DType::float32;
  Sizes sizes;
  bool is_object = false;
};

// Cuts what is put into blocks of the ring's slab size, the last one being what is left.
class BlockCutter {
 public:
  // With `borrow`, blocks that lie in one piece of memory are passed on as they are, and must stay there until `take` returns.
  BlockCutter(SlabRing& ring, bool borrow, std::function<void(Block)> take) : ring_(ring), borrow_(borrow), take_(std::move(take)) {}
  void put(std::span<const std::byte> bytes);
  void finish();
  int64_t position() const { return begin_ + static_cast<int64_t>(filled_); }

 private:
  void pass_on();

  SlabRing& ring_;
  const bool borrow_;
  const std::function<void(Block)> take_;
  int64_t begin_ = 0;  // of the block being filled
  Slab slab_;
  size_t filled_ = 0;
};

class BlockFile {
 public:
  // `items` stand in the file one after another from its first byte. `written` is told how many bytes are with the file system.
  BlockFile(std::unique_ptr<FileWriter> file, std::vector<ItemPlace> items, std::function<void(int64_t)> written = {})
      : file_(std::move(file)), items_(std::move(items)), written_(std::move(written)) {}

  // Blocks come in order, without a gap.
  void take(Block block);
  // Makes the file durable. Returns its length as the file system has it.
  int64_t close();
  const std::vector<Digest>& digests() const { return digests_; }

 private:
  void complete(Block& block, const ItemPlace& item);
  void write(const Block& block);

  std::unique_ptr<FileWriter> file_;
  const std::vector<ItemPlace> items_;
  const std::function<void(int64_t)> written_;
  size_t item_ = 0;  // the first that is not whole yet
  uint32_t crc_ = 0;  // of its data so far
  std::vector<Block> held_;
  std::vector<Digest> digests_;
  int64_t taken_ = 0;  // bytes that came
  int64_t on_disk_ = 0;  // bytes that were written
};

}  // namespace tessera
