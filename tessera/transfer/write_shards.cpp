#include "tessera/transfer/write_shards.h"

#include <algorithm>
#include <cstring>

#include "tessera/base/digest.h"
#include "tessera/format/item.h"

namespace tessera {
namespace {

constexpr size_t slab_bytes = size_t{1} << 20;
// From here on a run is written from where it lies: the copy into the slab would cost more than the extra system call.
constexpr size_t direct_bytes = slab_bytes / 4;

// A file written front to back through one slab, in which an earlier place can be corrected.
class SlabStream {
 public:
  SlabStream(FileWriter& file, const Progress& progress, int64_t total_bytes) : file_(file), progress_(progress), total_(total_bytes) {
    slab_.reserve(slab_bytes);
  }

  int64_t position() const { return written_ + static_cast<int64_t>(slab_.size()); }

  // Appends, and returns the CRC continued over the bytes.
  uint32_t put(std::span<const std::byte> bytes, uint32_t crc = 0) {
    while (!bytes.empty()) {
      if (bytes.size() >= direct_bytes) {
        flush();
        const auto piece = bytes.first(std::min(bytes.size(), slab_bytes));
        crc = crc32(piece, crc);
        file_.write(written_, piece);
        advance(piece.size());
        bytes = bytes.subspan(piece.size());
        continue;
      }
      if (slab_.size() == slab_bytes) flush();
      const auto piece = bytes.first(std::min(bytes.size(), slab_bytes - slab_.size()));
      crc = crc32(piece, crc);
      slab_.insert(slab_.end(), piece.begin(), piece.end());
      bytes = bytes.subspan(piece.size());
    }
    return crc;
  }

  // Writes again what was put at `at_bytes`: in the slab where it is still there whole, else in the file.
  void correct(int64_t at_bytes, std::span<const std::byte> bytes) {
    if (at_bytes >= written_) {
      std::memcpy(slab_.data() + (at_bytes - written_), bytes.data(), bytes.size());
      return;
    }
    flush();
    file_.write(at_bytes, bytes);
  }

  void flush() {
    if (slab_.empty()) return;
    file_.write(written_, slab_);
    const size_t count = slab_.size();
    slab_.clear();
    advance(count);
  }

 private:
  void advance(size_t count) {
    written_ += static_cast<int64_t>(count);
    if (progress_) progress_(written_, total_);
  }

  FileWriter& file_;
  const Progress& progress_;
  const int64_t total_;
  std::vector<std::byte> slab_;
  int64_t written_ = 0;
};

// The head carries the CRC of data that comes after it: it is put with a zero CRC first and corrected at the end.
uint32_t put_tensor(SlabStream& out, const WriteItem& item, ShardSource& source) {
  const ShardSource::Tensor tensor = source.tensor(item.key, item.box);
  const int64_t head_at = out.position();
  out.put(format::item_head(tensor.dtype, tensor.sizes, 0));
  uint32_t crc = 0;
  source.read(item.key, item.box, [&](std::span<const std::byte> run) { crc = out.put(run, crc); });
  out.put(format::item_tail(tensor.dtype, tensor.sizes, crc));
  out.correct(head_at, format::item_head(tensor.dtype, tensor.sizes, crc));
  return crc;
}

// What a rank's state describes.
class MemorySourceOfShards final : public ShardSource {
 public:
  explicit MemorySourceOfShards(const Described& state) : state_(state) {}
  Tensor tensor(const std::string& key, int32_t box) const override { return {view(key, box).dtype, view(key, box).sizes}; }
  void read(const std::string& key, int32_t box, const std::function<void(std::span<const std::byte>)>& take) override {
    for_each_run(view(key, box), take);
  }
  Bytes object(const std::string& key) override { return state_.objects.at(key); }

 private:
  const View& view(const std::string& key, int32_t box) const { return state_.tensors.at(key)->shards.at(static_cast<size_t>(box)).view; }
  const Described& state_;
};

}  // namespace

Proof write_shards(const RankWrites& writes, const Described& state, Storage& storage, const Path& directory, const Progress& progress) {
  MemorySourceOfShards source(state);
  return write_shards(writes, source, storage, directory, progress);
}

Proof write_shards(const RankWrites& writes, ShardSource& source, Storage& storage, const Path& directory, const Progress& progress) {
  Proof proof{writes.items.empty() ? "" : writes.file, 0, {}};
  if (writes.items.empty()) return proof;
  const auto file = storage.create(directory.empty() ? writes.file : directory + "/" + writes.file);
  SlabStream out(*file, progress, writes.file_bytes);
  for (const WriteItem& item : writes.items) {
    const int64_t begin = out.position();
    proof.item_crcs.push_back(item.box < 0 ? out.put(source.object(item.key)) : put_tensor(out, item, source));
    if (out.position() - begin != item.length_bytes) {
      throw Error({.code = Code::internal,
                   .what = "the item of '" + item.key + "' is not as long as planned",
                   .file = writes.file,
                   .offset_bytes = begin});
    }
  }
  out.flush();
  proof.length_bytes = file->close();
  return proof;
}

Bytes encode(const Proof& proof) {
  ByteWriter out;
  out.put_string(proof.file);
  out.put(proof.length_bytes);
  out.put_list<uint32_t>(proof.item_crcs);
  return out.take();
}

Proof decode_proof(std::span<const std::byte> bytes) {
  ByteReader in(bytes);
  Proof proof;
  proof.file = in.get_string();
  proof.length_bytes = in.get<int64_t>();
  proof.item_crcs = in.get_list<uint32_t>();
  return proof;
}

}  // namespace tessera
