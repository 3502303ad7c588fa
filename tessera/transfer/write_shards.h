// tessera/transfer/write_shards.h: carries out one rank's part of a save plan: its file, written once, front to back.
// A large run of memory goes to the file as it lies, a block at a time, hashed while the block is in cache; small ones are gathered in a
// slab. Peak memory is a few slabs (block_file.h), whatever the size of the state.
// Promises    When it returns, the file's content is durable; its name is not, until its directory is synced.
// Errors      Error(io, no_space) with file and offset; Error(internal) if the encoder and the plan disagree.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "tessera/base/bytes.h"
#include "tessera/base/digest.h"
#include "tessera/plan/save_plan.h"
#include "tessera/storage/storage.h"
#include "tessera/transfer/block_file.h"

namespace tessera {

// What a rank answers for: the leader compares it with the plan and with the file system before anything is published.
struct Proof {
  std::string file;
  int64_t length_bytes = 0;          // as the file system reported it when the file was closed
  std::vector<Digest> blocks = {};   // of each block, taken from the bytes that were handed to the disk
  Digest writes = {};                // of the orders that it carried out, which it may have worked out by itself
  WriteMode mode = WriteMode::buffered;  // how the file was written; not sent
  bool operator==(const Proof&) const = default;
};
Bytes encode(const Proof& proof);
Proof decode_proof(std::span<const std::byte> bytes);

// Where the bytes of a plan's items come from.
class ShardSource {
 public:
  virtual ~ShardSource() = default;
  struct Tensor {
    DType dtype = DType::float32;
    Sizes sizes;
  };
  // What a tensor's item is. Asked in the order of the plan.
  virtual Tensor tensor(const WriteItem& item) const = 0;
  // Gives its bytes to `take` in row-major order, in as many runs as it likes. Runs of a block or more must stay where they are until the
  // file is written, unless one thread does it all.
  virtual void read(const WriteItem& item, const std::function<void(std::span<const std::byte>)>& take) = 0;
  // The archive of an object, as long as the plan says.
  virtual Bytes object(const std::string& key) = 0;
};

// A rank's memory as it was described. Borrows what it is given.
class StateShards final : public ShardSource {
 public:
  explicit StateShards(const Described& state) : state_(state), near_(state.tensors.begin()) {}
  Tensor tensor(const WriteItem& item) const override;
  void read(const WriteItem& item, const std::function<void(std::span<const std::byte>)>& take) override;
  Bytes object(const std::string& key) override;

 private:
  const View& view(const WriteItem& item) const;
  const Described& state_;
  // Where the last key was found: plans go through keys in order, so that the next one is here or the one after.
  mutable std::map<std::string, const TensorLeaf*>::const_iterator near_;
};

// Told now and then how far the work is: bytes done, bytes in all.
using Progress = std::function<void(int64_t done_bytes, int64_t total_bytes)>;

struct WriteWork {
  int threads = 1;  // that hash and write
  WriteMode mode = WriteMode::buffered;
  int64_t most_bytes_per_second = 0;
  Progress progress = {};
  std::function<void()> begin_thread = {};  // run first by each thread that hashes and writes, but for the caller's own
};

// Where each item of a plan stands.
void lay_out(const RankWrites& writes, const ShardSource& source, FileLayout& layout);
// The whole file, its checksums left zero: what a BlockFile with this layout makes right.
void cut_shards(const RankWrites& writes, const FileLayout& layout, ShardSource& source, BlockCutter& out);

// A rank's file from its plan to its proof: laid out and created, then cut by one thread and drained by the same or by another.
class ShardFile {
 public:
  // Borrows `writes`, and `source` for cut().
  ShardFile(const RankWrites& writes, ShardSource& source, Storage& storage, const Path& directory, const WriteWork& work);
  void cut(BlockCutter& out) { cut_shards(writes_, layout_, source_, out); }
  BlockFile& blocks() { return *blocks_; }
  // Once every block was taken: makes the file durable.
  Proof close();

 private:
  const RankWrites& writes_;
  ShardSource& source_;
  FileLayout layout_;
  Throttle throttle_;
  WriteMode mode_;
  std::optional<BlockFile> blocks_;
};

// Writes `writes.file` in `directory`. A rank without items writes nothing and proves a file without a name.
Proof write_shards(const RankWrites& writes, ShardSource& source, Storage& storage, const Path& directory, const WriteWork& work = {});
// From a rank's memory.
Proof write_shards(const RankWrites& writes, const Described& state, Storage& storage, const Path& directory, const WriteWork& work = {});

}  // namespace tessera
