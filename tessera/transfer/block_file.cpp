#include "tessera/transfer/block_file.h"

#include <algorithm>
#include <cassert>
#include <cstring>

#include "tessera/format/item.h"

namespace tessera {
namespace {

int64_t end_of(const Block& block) { return block.begin_bytes + static_cast<int64_t>(block.bytes.size()); }

// Copies what `bytes`, which stand at `at` in the file, have in common with the block.
void put_into(Block& block, int64_t at, std::span<const std::byte> bytes) {
  const int64_t begin = std::max(at, block.begin_bytes);
  const int64_t end = std::min(at + static_cast<int64_t>(bytes.size()), end_of(block));
  if (begin >= end) return;
  assert(block.slab);  // borrowed blocks are inside the data of one item
  std::memcpy(block.slab.data() + (begin - block.begin_bytes), bytes.data() + (begin - at), static_cast<size_t>(end - begin));
}

}  // namespace

void BlockCutter::put(std::span<const std::byte> bytes) {
  const auto whole = static_cast<size_t>(ring_.slab_bytes());
  while (!bytes.empty()) {
    if (borrow_ && filled_ == 0 && bytes.size() >= whole) {
      take_({begin_, bytes.first(whole)});
      begin_ += ring_.slab_bytes();
      bytes = bytes.subspan(whole);
      continue;
    }
    if (!slab_) slab_ = ring_.acquire();
    const auto piece = bytes.first(std::min(bytes.size(), whole - filled_));
    std::memcpy(slab_.data() + filled_, piece.data(), piece.size());
    filled_ += piece.size();
    bytes = bytes.subspan(piece.size());
    if (filled_ == whole) pass_on();
  }
}

void BlockCutter::finish() {
  if (filled_ > 0) pass_on();
}

void BlockCutter::pass_on() {
  Block block{begin_, {slab_.data(), filled_}, std::move(slab_)};
  slab_ = Slab();
  begin_ += static_cast<int64_t>(filled_);
  filled_ = 0;
  take_(std::move(block));
}

// An item is complete in the block where its data ends; its head may stand in that block or in one that is held.
void BlockFile::take(Block block) {
  assert(block.begin_bytes == taken_);
  const int64_t end = end_of(block);
  taken_ = end;
  bool waits = false;
  while (item_ < items_.size()) {
    const ItemPlace& item = items_[item_];
    if (item.begin_bytes >= end) break;
    if (item.is_object) {
      if (item.end_bytes > end) break;
      ++item_;
      continue;
    }
    const int64_t from = std::max(item.data_begin_bytes, block.begin_bytes);
    const int64_t to = std::min(item.data_end_bytes, end);
    if (from < to) {
      crc_ = crc32(block.bytes.subspan(static_cast<size_t>(from - block.begin_bytes), static_cast<size_t>(to - from)), crc_);
    }
    if (item.data_end_bytes > end) {
      waits = item.data_begin_bytes > block.begin_bytes;
      break;
    }
    complete(block, item);
    if (item.end_bytes > end) break;
    crc_ = 0;
    ++item_;
  }
  if (waits) held_.push_back(std::move(block));
  else write(block);
}

// The checksum is known: it goes into the tail, and into the head wherever that stands.
void BlockFile::complete(Block& block, const ItemPlace& item) {
  put_into(block, item.data_end_bytes, format::item_tail(item.dtype, item.sizes, crc_));
  if (item.data_begin_bytes <= block.begin_bytes && held_.empty()) return;
  const Bytes head = format::item_head(item.dtype, item.sizes, crc_);
  for (Block& held : held_) put_into(held, item.begin_bytes, head);
  put_into(block, item.begin_bytes, head);
  for (const Block& held : held_) write(held);
  held_.clear();
}

void BlockFile::write(const Block& block) {
  const auto index = static_cast<size_t>(block.begin_bytes / block_bytes);
  if (digests_.size() <= index) digests_.resize(index + 1);
  digests_[index] = digest(block.bytes);
  file_->write(block.begin_bytes, block.bytes);
  on_disk_ += static_cast<int64_t>(block.bytes.size());
  if (written_) written_(on_disk_);
}

int64_t BlockFile::close() {
  assert(held_.empty() && item_ == items_.size());
  return file_->close();
}

}  // namespace tessera
