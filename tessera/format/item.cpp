#include "tessera/format/item.h"

#include <cstring>

#include "tessera/base/digest.h"
#include "tessera/format/archive.h"

namespace tessera::format {
namespace {

constexpr int64_t most_pickle_bytes = int64_t{1} << 20;  // of a tensor's data.pkl; torch's have some 150

void put_crc(Bytes& bytes, int64_t at, uint32_t crc) { std::memcpy(bytes.data() + at, &crc, sizeof crc); }

}  // namespace

// The data comes last, so that what follows it is the directory alone and no header lies past 4 GiB.
ItemFrame item_frame(DType dtype, std::span<const int64_t> sizes) {
  PickleWriter pickle;
  write_tensor(pickle, dtype, sizes, "0");
  const Bytes content = pickle.finish();
  ZipLayout layout;
  ByteWriter head;
  const auto add = [&](const char* name, std::span<const std::byte> bytes) {
    layout.add(name, static_cast<int64_t>(bytes.size()), crc32(bytes), false);
    head.put_raw(layout.header());
    head.put_raw(bytes);
  };
  add("archive/data.pkl", content);
  add("archive/byteorder", as_bytes("little"));
  add("archive/version", as_bytes("3\n"));
  ItemFrame frame;
  frame.data_bytes = volume(sizes) * element_bytes(dtype);
  layout.add("archive/data/0", frame.data_bytes, 0, true);
  frame.head_crc_at = static_cast<int64_t>(head.size()) + ZipLayout::crc_in_header_bytes;
  head.put_raw(layout.header());
  frame.head = head.take();
  frame.tail = layout.directory();
  frame.tail_crc_at = layout.crc_in_directory_bytes();
  frame.data_offset_bytes = layout.data_offset();
  frame.length_bytes = layout.end() + static_cast<int64_t>(frame.tail.size());
  return frame;
}

Bytes item_head(DType dtype, std::span<const int64_t> sizes, uint32_t data_crc) {
  ItemFrame frame = item_frame(dtype, sizes);
  put_crc(frame.head, frame.head_crc_at, data_crc);
  return std::move(frame.head);
}

Bytes item_tail(DType dtype, std::span<const int64_t> sizes, uint32_t data_crc) {
  ItemFrame frame = item_frame(dtype, sizes);
  put_crc(frame.tail, frame.tail_crc_at, data_crc);
  return std::move(frame.tail);
}

TensorItem read_tensor_item(const ByteSource& item) {
  return parse(item, [&] {
    const ArchiveReader archive(item);
    const Pickle pickle = archive.pickle(most_pickle_bytes);
    return tensor_of(pickle.root(), archive);
  });
}

}  // namespace tessera::format
