#include <array>
#include <optional>

#include "tessera/base/checked.h"
#include "tessera/format/item_frames.h"
#include "tessera/format/safetensors.h"
#include "tessera/format/zstd.h"
#include "tessera/layout/view.h"
#include "tessera/transfer/about.h"
#include "tessera/transfer/items.h"

namespace tessera {
namespace {

constexpr int64_t archive_overhead_bytes = int64_t{1} << 16;  // of a tensor's archive; torch's have some 1,500

// What an item decompressed to, under the name of where it was.
class DecompressedSource final : public ByteSource {
 public:
  DecompressedSource(Bytes bytes, std::string file, int64_t origin_bytes)
      : bytes_(std::move(bytes)), view_(bytes_, std::move(file)), origin_(origin_bytes) {}
  int64_t size_bytes() const override { return view_.size_bytes(); }
  void read(int64_t offset_bytes, std::span<std::byte> into) const override { view_.read(offset_bytes, into); }
  std::string file() const override { return view_.file(); }
  int64_t origin_bytes() const override { return origin_; }

 private:
  const Bytes bytes_;
  const MemorySource view_;
  const int64_t origin_;
};

// Else it is an archive, or the archive reader says what is wrong with it.
bool is_safetensors(const ByteSource& file) {
  std::array<std::byte, 9> head{};
  if (file.size_bytes() < static_cast<int64_t>(head.size())) return false;
  file.read(0, head);
  return head[8] == std::byte{'{'};
}

class ArchiveItems final : public Items {
 public:
  ArchiveItems(std::shared_ptr<const Storage> storage, Path directory, const format::Limits& limits, Checks checks)
      : files_(std::move(storage), std::move(directory), std::move(checks.sidecar)),
        limits_(limits),
        crcs_(checks.crcs),
        ours_(checks.ours) {}

  OpenItem tensor(const std::string& key, const TensorEntry& entry, const Chunk& chunk) const override {
    return about(key, [&] {
      OpenItem open{.file = files_.file(chunk.at.file),
                    .begin_bytes = chunk.at.offset_bytes,
                    .length_bytes = chunk.at.length_bytes,
                    .checked = files_.checked()};
      const int64_t data_bytes = checked_multiply(checked_volume(chunk.box.sizes), element_bytes(entry.dtype));
      if (ours_ && chunk.at.transforms.empty() && data_bytes <= chunk.at.length_bytes) {
        if (auto known = by_arithmetic(*open.file, entry.dtype, chunk)) {
          open.tensor = std::move(*known);
          return open;
        }
      }
      open.unpacked = unpacked(open.file, chunk.at, checked_add(data_bytes, archive_overhead_bytes));
      // Every item of such a file is said to begin at 0 and to be as long as its data.
      const bool bare = chunk.at.offset_bytes == 0 && chunk.at.transforms.empty() && is_safetensors(*open.file);
      open.tensor = bare ? in_safetensors(key, open) : in_item(open, format::read_tensor_item);
      check(open, entry, chunk);
      if (open.checked || !crcs_) open.tensor.data_crc.reset();  // the digests say more, or nobody asked
      return open;
    });
  }

  Value object(const std::string& key, const ObjectEntry& entry) const override {
    return about(key, [&] {
      if (entry.at.length_bytes > limits_.object_bytes) {
        throw Error({.code = Code::limit, .what = "the object is too large", .file = entry.at.file, .offset_bytes = entry.at.offset_bytes});
      }
      OpenItem open{.file = files_.file(entry.at.file), .begin_bytes = entry.at.offset_bytes, .length_bytes = entry.at.length_bytes};
      open.unpacked = unpacked(open.file, entry.at, limits_.object_bytes);
      return in_item(open, format::read_object_item);
    });
  }

 private:
  // What stands there decompressed; null where it is not packed.
  static std::shared_ptr<const ByteSource> unpacked(const std::shared_ptr<const ByteSource>& file, const Extent& at, int64_t most_bytes) {
    if (at.transforms.empty()) return nullptr;
    if (at.transforms != std::vector<std::string>{format::zstd_transform}) {
      throw Error({.code = Code::unsupported,
                   .what = "written through '" + at.transforms.front() + "', which this release does not undo",
                   .file = at.file,
                   .offset_bytes = at.offset_bytes});
    }
    const PartSource packed(*file, at.offset_bytes, at.length_bytes);
    return std::make_shared<DecompressedSource>(format::decompress_zstd(packed, most_bytes), file->file(), at.offset_bytes);
  }

  // Where the elements are in an archive of ours. Nothing for one of another length, which its own header then explains.
  std::optional<format::TensorItem> by_arithmetic(const ByteSource& file, DType dtype, const Chunk& chunk) const {
    const auto [data_at, length_bytes] = frames_.with([&](format::ItemFrames& frames) {
      const format::ItemFrame& frame = frames.of(dtype, chunk.box.sizes);
      return std::pair(frame.data_offset_bytes, frame.length_bytes);
    });
    if (length_bytes != chunk.at.length_bytes) return std::nullopt;
    const PartSource inside(file, chunk.at.offset_bytes, chunk.at.length_bytes);  // throws where it is not
    return format::TensorItem{.dtype = dtype,
                              .sizes = chunk.box.sizes,
                              .strides = row_major(chunk.box.sizes),
                              .first_bytes = data_at,
                              .data_offset_bytes = data_at,
                              .data_bytes = volume(chunk.box) * element_bytes(dtype)};
  }

  // The tensor of that name in a file that is safetensors; the item is then the whole file.
  format::TensorItem in_safetensors(const std::string& key, OpenItem& open) const {
    const format::SafetensorsFile content = format::read_safetensors(*open.file, limits_);
    for (const format::SafeTensor& tensor : content.tensors) {
      if (tensor.key != key) continue;
      open.begin_bytes = 0;
      open.length_bytes = open.file->size_bytes();
      return {.dtype = tensor.dtype,
              .sizes = tensor.sizes,
              .strides = row_major(tensor.sizes),
              .first_bytes = tensor.offset_bytes,
              .data_offset_bytes = tensor.offset_bytes,
              .data_bytes = tensor.length_bytes};
    }
    throw corrupt_at(*open.file, 0, "the file has no tensor of that name");
  }

  static void check(const OpenItem& open, const TensorEntry& entry, const Chunk& chunk) {
    const auto differs = [&](const std::string& what) { return corrupt_at(*open.file, open.begin_bytes, what); };
    if (open.tensor.dtype != entry.dtype) {
      throw differs("the item is " + std::string(name(open.tensor.dtype)) + ", the metadata says " + std::string(name(entry.dtype)));
    }
    if (open.tensor.sizes != chunk.box.sizes) {
      throw differs("the item has shape " + to_string(open.tensor.sizes) + ", the metadata says " + to_string(chunk.box.sizes));
    }
  }

  const OpenFiles files_;
  const format::Limits limits_;
  const bool crcs_;
  const bool ours_;
  mutable Guarded<format::ItemFrames> frames_;
};

}  // namespace

std::shared_ptr<const Items> archive_items(std::shared_ptr<const Storage> storage, Path directory, const format::Limits& limits,
                                           Checks checks) {
  return std::make_shared<ArchiveItems>(std::move(storage), std::move(directory), limits, std::move(checks));
}

}  // namespace tessera
