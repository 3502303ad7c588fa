// tessera/transfer/block_file.h: a data file on its way to disk, block by block. Whoever has the bytes cuts them into blocks (BlockCutter);
// whoever drains them (BlockFile) takes the checksums, puts those that stand before their data in place, and writes each block once. The
// two may be one thread, so that a block is hashed while it is in cache, or two with a ring of slabs between them.
// Promises    A digest is of the bytes that were given to the disk, taken before they were.
// Memory      At most `held_blocks` blocks wait for a checksum: those in which the head of an unfinished item stands. With helpers, two
//             more for each.
// Errors      Error(io, no_space, no_memory) with file and offset; what a ring was stopped with.
#pragma once

#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <thread>
#include <vector>

#include "tessera/base/digest.h"
#include "tessera/base/guarded.h"
#include "tessera/base/throttle.h"
#include "tessera/storage/storage.h"
#include "tessera/transfer/file_layout.h"
#include "tessera/transfer/slab_ring.h"

namespace tessera {

// How much of a file one digest covers: it stays in cache between checksum, digest and write. Larger costs more where a part of a tensor is
// read, smaller costs more in the sidecar.
inline constexpr int64_t block_bytes = int64_t{1} << 20;
// A head is a few hundred bytes: it stands in two blocks at most.
inline constexpr int held_blocks = 2;
// Blocks that wait for a helper, or are with it.
inline constexpr int blocks_a_helper = 2;
// Held, being filled, and one to go on with; and those of the helpers.
constexpr int slabs_for(int threads) { return held_blocks + 2 + blocks_a_helper * (threads - 1); }
inline constexpr int least_slabs = slabs_for(1);

struct Block {
  int64_t begin_bytes = 0;  // in the file
  std::span<const std::byte> bytes;
  Slab slab = {};  // owns the bytes; none where they lie in somebody's tensor, and are not to be changed
};

// Cuts what is put into blocks of the ring's slab size, the last one being what is left.
class BlockCutter {
 public:
  // With `borrow`, blocks that lie in one piece of memory are passed on as they are, and must stay there until the file is closed.
  // `past_cache`: blocks are looked at again only once many more were copied.
  BlockCutter(SlabRing& ring, bool borrow, std::function<void(Block)> take, bool past_cache = false)
      : ring_(ring), borrow_(borrow), past_cache_(past_cache), take_(std::move(take)) {}
  void put(std::span<const std::byte> bytes) { put(bytes, borrow_); }
  // Of bytes that are gone soon.
  void put_copy(std::span<const std::byte> bytes) { put(bytes, false); }
  void finish();
  int64_t position() const { return begin_ + static_cast<int64_t>(filled_); }

 private:
  void put(std::span<const std::byte> bytes, bool borrow);
  void pass_on();

  SlabRing& ring_;
  const bool borrow_;
  const bool past_cache_;
  const std::function<void(Block)> take_;
  int64_t begin_ = 0;  // of the block being filled
  Slab slab_;
  size_t filled_ = 0;
};

struct BlockWork {
  int threads = 1;  // beyond the first: helpers, which hash and write as the thread that calls take() does
  std::function<void(int64_t)> written = {};  // told how many bytes are with the file system, by any thread, one at a time
  Throttle* throttle = nullptr;  // asked before each write
  std::function<void()> begin_thread = {};  // run first by each helper
};

class BlockFile {
 public:
  // `layout` outlives this.
  BlockFile(std::unique_ptr<FileWriter> file, const FileLayout& layout, BlockWork work = {});
  ~BlockFile();

  // Blocks come in order, without a gap.
  void take(Block block);
  // Waits for the helpers and makes the file durable. Returns its length as the file system has it.
  int64_t close();
  // Of each block, once the file is closed.
  const std::vector<Digest>& digests() const { return digests_; }

 private:
  // A block, and whether its CRC is to be taken too: then it is all data of one item.
  struct Task {
    Block block;
    bool with_crc = false;
  };
  struct Queue {
    std::deque<Task> tasks;
    int running = 0;
    int64_t on_disk_bytes = 0;
    bool ended = false;
    std::optional<Fault> fault;  // the first; tasks that come after it are dropped
  };
  // Data of the item that is not whole yet: its CRC, or the block whose task finds it.
  struct Piece {
    int64_t count_bytes = 0;
    uint32_t crc = 0;
    std::optional<size_t> block;
  };
  uint32_t crc_of_pieces();
  void complete(Block* block, const ItemPlace& item);
  void hand_out(Task task);
  bool run_one(bool wait);
  void run(const Task& task);
  void end_helpers() noexcept;

  const std::unique_ptr<FileWriter> file_;
  const FileLayout& layout_;
  const BlockWork work_;
  size_t item_ = 0;  // the first that is not whole yet
  std::vector<Piece> pieces_;
  std::optional<uint32_t> crc_;  // of its data, once that is whole
  std::vector<Block> held_;
  std::vector<Digest> digests_;  // of each block, as its crcs_: written by whoever runs its task
  std::vector<uint32_t> crcs_;
  int64_t taken_bytes_ = 0;
  Guarded<Queue> queue_;
  std::vector<std::thread> helpers_;
};

}  // namespace tessera
