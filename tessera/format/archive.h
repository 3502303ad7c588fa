// tessera/format/archive.h: a torch.save archive: a zip with a `data.pkl`, a `version`, and storages under `data/`.
// What tensor items and object items have in common.
// Errors      Those of zip.h and pickle.h; Error(unsupported) for TorchScript and for versions outside 1 to 10.
#pragma once

#include <optional>
#include <string>
#include <utility>

#include "tessera/format/item.h"
#include "tessera/format/pickle.h"
#include "tessera/format/pickle_writer.h"
#include "tessera/format/zip.h"

namespace tessera::format {

// An item's first and last bytes, read once: a parser that jumps between directory and headers costs two reads, not ten.
class EdgeCache final : public ByteSource {
 public:
  explicit EdgeCache(const ByteSource& source);
  int64_t size_bytes() const override { return source_.size_bytes(); }
  void read(int64_t offset_bytes, std::span<std::byte> into) const override;
  std::string file() const override { return source_.file(); }
  int64_t origin_bytes() const override { return source_.origin_bytes(); }

 private:
  const ByteSource& source_;
  Bytes head_;
  Bytes tail_;
};

// Where a storage's bytes are.
struct StoragePlace {
  int64_t offset_bytes = 0;
  int64_t size_bytes = 0;
  std::optional<uint32_t> crc;  // what the file says of them
};

// The storages of a torch.save file, whatever its form.
class Storages {
 public:
  virtual ~Storages() = default;
  virtual const ByteSource& source() const = 0;
  virtual bool big_endian() const = 0;
  // By the key that a persistent id names. Error(corrupt) if there is none.
  virtual StoragePlace storage(const std::string& key) const = 0;
};

class ArchiveReader final : public Storages {
 public:
  explicit ArchiveReader(const ByteSource& source);
  const ByteSource& source() const override { return source_; }
  bool big_endian() const override { return big_endian_; }
  // The parsed data.pkl. `most_bytes` bounds its size.
  Pickle pickle(int64_t most_bytes) const;
  StoragePlace storage(const std::string& key) const override;
  // Reads every record, so that every CRC was checked.
  void check() const;

 private:
  const EdgeCache source_;
  const ZipReader zip_;
  std::string prefix_;  // "archive/"
  bool big_endian_ = false;
};

// What a call of torch._utils._rebuild_tensor_v2 or _v3 says, its storage checked against the archive and its strides against the
// storage. Error(unsupported) for any other function.
TensorItem tensor_of(const Node& node, const Storages& storages);
// What the persistent id ("storage", class, key, location, numel) names.
struct StorageId {
  std::optional<DType> dtype;  // none for bytes without one
  std::string key;
  int64_t numel = 0;
  int64_t each_bytes() const { return dtype ? element_bytes(*dtype) : 1; }
};
StorageId storage_id(const Node& node, const ByteSource& source);
// True if the node is a call of this global, and nothing was done to the result.
bool is_call(const Node& node, std::string_view global);
// True if the node is a call that tensor_of knows.
bool is_tensor(const Node& node);
// The first global that stands in the way of who cannot make this call or object: for messages.
std::string made_by(const Node& node);
// The same call, for a row-major tensor of these sizes over the whole storage `key`.
void write_tensor(PickleWriter& out, DType dtype, std::span<const int64_t> sizes, const std::string& key);

// The node as a list of ints: a tuple, or torch.Size of one. Nothing otherwise.
std::optional<Sizes> sizes_of(const Node& node);

// Runs `work`, which parses something of `source`; an Error that knows no file gets that of the source.
template <class Work>
auto parse(const ByteSource& source, Work work) {
  try {
    return work();
  } catch (const Error& error) {
    if (!error.fault().file.empty()) throw;
    Fault fault = error.fault();
    fault.file = source.file();
    fault.offset_bytes = source.origin_bytes();
    throw Error(std::move(fault));
  }
}

}  // namespace tessera::format
