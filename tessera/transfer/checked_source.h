// tessera/transfer/checked_source.h: a data file whose every block is held against the sidecar's digest before its bytes are believed.
// A read checks exactly the blocks that it touches. Blocks that are wanted whole are read straight into place; of others a few are kept,
// so that small reads side by side cost one block and not one each.
// Errors      Error(corrupt) with the file and the block's offset where a block is not what was published; the destination's content is
//             then undefined.
// Threads     const methods may be called from many threads at once.
#pragma once

#include <deque>
#include <memory>
#include <string>

#include "tessera/base/byte_source.h"
#include "tessera/base/guarded.h"
#include "tessera/format/sidecar.h"

namespace tessera {

// Blocks that were read whole and found good for the sake of a part of them. The files of a checkpoint share one.
class BlockCache {
 public:
  using Content = std::shared_ptr<const Bytes>;
  Content find(const std::string& file, int64_t block) const;
  void keep(const std::string& file, int64_t block, Content content);

 private:
  struct Kept {
    std::string file;
    int64_t block = 0;
    Content content;
  };
  mutable Guarded<std::deque<Kept>> kept_;  // the last used first
};

// What the sidecar says of the file `name`. Error(corrupt) if it does not know it, or if `file` has another length.
const format::FileDigests& check_length(const format::Sidecar& sidecar, const std::string& name, const ByteSource& file);

class CheckedSource final : public ByteSource {
 public:
  // `sidecar` has the file under `name`. Error(corrupt) if the file is not as long as it says.
  CheckedSource(std::shared_ptr<const ByteSource> file, std::string name, std::shared_ptr<const format::Sidecar> sidecar,
                std::shared_ptr<BlockCache> cache);
  int64_t size_bytes() const override { return file_->size_bytes(); }
  void read(int64_t offset_bytes, std::span<std::byte> into) const override;
  // Parts that make up whole blocks are read and checked where they are, without a copy.
  void read_parts(int64_t offset_bytes, std::span<const std::span<std::byte>> parts) const override;
  int64_t checked_together_bytes() const override { return sidecar_->block_bytes; }
  std::string file() const override { return file_->file(); }
  int64_t origin_bytes() const override { return file_->origin_bytes(); }

 private:
  BlockCache::Content block(int64_t index) const;
  void check(int64_t index, const Digest& found) const;

  const std::shared_ptr<const ByteSource> file_;
  const std::string name_;
  const std::shared_ptr<const format::Sidecar> sidecar_;
  const format::FileDigests& digests_;  // in the sidecar
  const std::shared_ptr<BlockCache> cache_;
};

}  // namespace tessera
