#include "tessera/format/item.h"

#include "tessera/base/digest.h"
#include "tessera/format/archive.h"

namespace tessera::format {
namespace {

constexpr int64_t most_pickle_bytes = int64_t{1} << 20;  // of a tensor's data.pkl; torch's have some 150

// The data comes last, so that what follows it is the directory alone and no header lies past 4 GiB.
struct TensorArchive {
  Bytes head;
  ZipLayout layout;
};
TensorArchive lay_out(DType dtype, std::span<const int64_t> sizes, uint32_t data_crc) {
  PickleWriter pickle;
  write_tensor(pickle, dtype, sizes, "0");
  const Bytes content = pickle.finish();
  TensorArchive archive;
  ByteWriter head;
  const auto add = [&](const char* name, std::span<const std::byte> bytes) {
    archive.layout.add(name, static_cast<int64_t>(bytes.size()), crc32(bytes), false);
    head.put_raw(archive.layout.header());
    head.put_raw(bytes);
  };
  add("archive/data.pkl", content);
  add("archive/byteorder", as_bytes("little"));
  add("archive/version", as_bytes("3\n"));
  archive.layout.add("archive/data/0", volume(sizes) * element_bytes(dtype), data_crc, true);
  head.put_raw(archive.layout.header());
  archive.head = head.take();
  return archive;
}

}  // namespace

ItemFrame item_frame(DType dtype, std::span<const int64_t> sizes) {
  const TensorArchive archive = lay_out(dtype, sizes, 0);
  const int64_t data_bytes = volume(sizes) * element_bytes(dtype);
  return {archive.layout.data_offset(), data_bytes, archive.layout.end() + static_cast<int64_t>(archive.layout.directory().size())};
}

Bytes item_head(DType dtype, std::span<const int64_t> sizes, uint32_t data_crc) { return lay_out(dtype, sizes, data_crc).head; }

Bytes item_tail(DType dtype, std::span<const int64_t> sizes, uint32_t data_crc) {
  return lay_out(dtype, sizes, data_crc).layout.directory();
}

TensorItem read_tensor_item(const ByteSource& item) {
  return parse(item, [&] {
    const ArchiveReader archive(item);
    const Pickle pickle = archive.pickle(most_pickle_bytes);
    return tensor_of(pickle.root(), archive);
  });
}

}  // namespace tessera::format
