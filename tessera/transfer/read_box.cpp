#include "tessera/transfer/read_box.h"

#include <algorithm>
#include <optional>

#include "tessera/base/digest.h"
#include "tessera/transfer/convert.h"

namespace tessera {
namespace {

constexpr int64_t slab_bytes = int64_t{1} << 20;
constexpr int64_t direct_bytes = int64_t{64} << 10;  // a run from here on is read straight into place
constexpr int64_t gap_bytes = int64_t{4} << 10;      // bytes nobody asked for that are read to save a system call

// A run of bytes that is contiguous in the item and in memory.
struct Run {
  int64_t at_bytes;  // in the item
  std::byte* into;
  int64_t count_bytes;
};

// Reads runs of one item and keeps the CRC of what was read, for as long as the reads follow each other without a gap.
class RunReader {
 public:
  RunReader(const ByteSource& item, CrcProgress& progress) : item_(item), progress_(progress) {}

  void read_now(const Run& run) {
    for (int64_t done = 0; done < run.count_bytes;) {
      const std::span piece(run.into + done, static_cast<size_t>(std::min(slab_bytes, run.count_bytes - done)));
      fetch(run.at_bytes + done, piece);
      done += static_cast<int64_t>(piece.size());
    }
  }

  void add(const Run& run) {
    if (run.count_bytes >= direct_bytes) {
      flush();
      return read_now(run);
    }
    if (!pending_.empty()) {
      const int64_t end = pending_.back().at_bytes + pending_.back().count_bytes;
      const bool near = run.at_bytes >= end && run.at_bytes - end <= gap_bytes;
      if (!near || run.at_bytes + run.count_bytes - pending_.front().at_bytes > slab_bytes) flush();
    }
    pending_.push_back(run);
  }

  void flush() {
    if (pending_.empty()) return;
    const int64_t begin = pending_.front().at_bytes;
    slab_.resize(static_cast<size_t>(pending_.back().at_bytes + pending_.back().count_bytes - begin));
    fetch(begin, slab_);
    for (const Run& run : pending_) std::copy_n(slab_.data() + (run.at_bytes - begin), run.count_bytes, run.into);
    pending_.clear();
  }

  int64_t read_bytes() const { return read_bytes_; }

 private:
  void fetch(int64_t at_bytes, std::span<std::byte> into) {
    item_.read(at_bytes, into);
    read_bytes_ += static_cast<int64_t>(into.size());
    progress_.in_order = progress_.in_order && at_bytes == progress_.next_bytes;
    if (!progress_.in_order) return;
    progress_.crc = crc32(into, progress_.crc);
    progress_.next_bytes += static_cast<int64_t>(into.size());
  }

  const ByteSource& item_;
  CrcProgress& progress_;
  std::vector<Run> pending_;
  std::vector<std::byte> slab_;
  int64_t read_bytes_ = 0;
};

// Reads box `from` of the item as its bytes are, into a view of the item's dtype.
void read_raw(RunReader& reader, const format::TensorItem& tensor, const Box& from, const View& into) {
  const int64_t each = element_bytes(tensor.dtype);
  int64_t corner = 0;
  for (size_t d = 0; d < from.offsets.size(); ++d) corner += from.offsets[d] * tensor.strides[d];
  const int64_t first = tensor.first_bytes + corner * each;
  for_each_run(from.sizes, tensor.strides, into.strides,
               [&](int64_t a, int64_t b, int64_t count) { reader.add({first + a * each, into.data + b * each, count * each}); });
  reader.flush();
}

// Cuts `box` into pieces of at most `most` elements, in row-major order.
template <class Work>
void for_each_piece(const Box& box, int64_t most, Work work) {
  if (volume(box) == 0) return;
  if (volume(box) <= most) return work(box);
  size_t d = 0;
  while (box.sizes[d] == 1) ++d;
  const int64_t row = volume(box) / box.sizes[d];
  const int64_t rows = std::max<int64_t>(1, most / row);
  for (int64_t at = 0; at < box.sizes[d]; at += rows) {
    Box piece = box;
    piece.offsets[d] += at;
    piece.sizes[d] = std::min(rows, box.sizes[d] - at);
    for_each_piece(piece, most, work);
  }
}

// Through a dense slab of the item's dtype, which is put right before it is converted into place.
void read_converted(RunReader& reader, const format::TensorItem& tensor, const Box& from, const View& into) {
  const int64_t each = element_bytes(tensor.dtype);
  std::vector<std::byte> slab(static_cast<size_t>(std::min(slab_bytes, volume(from) * each)));
  for_each_piece(from, slab_bytes / each, [&](const Box& piece) {
    const View raw = dense_view(slab.data(), tensor.dtype, piece.sizes);
    read_raw(reader, tensor, piece, raw);
    if (tensor.big_endian) swap_bytes_of(raw);
    if (tensor.conjugate) conjugate(raw);
    if (tensor.negative) negate(raw);
    convert(raw, part(into, relative(piece, from)));
  });
}

}  // namespace

ReadCount read_box(const ByteSource& item, const format::TensorItem& tensor, const Box& from, const View& into, CrcProgress* progress) {
  CrcProgress own;
  CrcProgress& crc = progress ? *progress : own;
  if (crc.next_bytes < 0) {
    crc.next_bytes = tensor.data_offset_bytes;
    crc.in_order = tensor.data_crc.has_value();
  }
  RunReader reader(item, crc);
  const bool as_it_is = tensor.dtype == into.dtype && !tensor.big_endian && !tensor.conjugate && !tensor.negative;
  if (as_it_is) read_raw(reader, tensor, from, into);
  else read_converted(reader, tensor, from, into);
  const bool all = crc.in_order && crc.next_bytes == tensor.data_offset_bytes + tensor.data_bytes;
  if (all && crc.crc != *tensor.data_crc) throw corrupt_at(item, tensor.data_offset_bytes, "the data's CRC-32 differs from the archive's");
  crc.complete = all;
  if (!all) crc.earlier_bytes += reader.read_bytes();
  return {reader.read_bytes(), all ? 0 : reader.read_bytes()};
}

}  // namespace tessera
