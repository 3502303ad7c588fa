#include "tessera/transfer/block_file.h"

#include <algorithm>
#include <cassert>
#include <cstring>

#include "tessera/base/trace.h"
#include "tessera/format/sidecar.h"

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

BlockFile::BlockFile(std::unique_ptr<FileWriter> file, const FileLayout& layout, BlockWork work)
    : file_(std::move(file)), layout_(layout), work_(std::move(work)) {
  digests_.resize(static_cast<size_t>(format::block_count(layout.file_bytes, block_bytes)));
  // Fewer helpers than asked for are slower, and no failure.
  capture([&] {
    for (int t = 1; t < work_.threads; ++t) helpers_.emplace_back([this] { help(); });
  });
}

BlockFile::~BlockFile() { end_helpers(); }

// An item is complete in the block where its data ends; its head may stand in that block or in one that is held.
void BlockFile::take(Block block) {
  assert(block.begin_bytes == taken_bytes_);
  const int64_t end = end_of(block);
  taken_bytes_ = end;
  bool waits = false;
  while (item_ < layout_.items.size()) {
    const ItemPlace& item = layout_.items[item_];
    if (item.begin_bytes >= end) break;
    if (!item.frame) {
      if (item.end_bytes > end) break;
      ++item_;
      continue;
    }
    const int64_t from = std::max(item.data_begin_bytes, block.begin_bytes);
    const int64_t to = std::min(item.data_end_bytes, end);
    if (from < to) {
      const TraceSpan span("crc", to - from);
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
  else pass_on(std::move(block));
}

// The checksum is known: it goes into the tail, and into the head wherever that stands.
void BlockFile::complete(Block& block, const ItemPlace& item) {
  const auto crc = std::as_bytes(std::span(&crc_, 1));
  put_into(block, item.data_end_bytes + item.frame->tail_crc_at, crc);
  const int64_t in_head = item.begin_bytes + item.frame->head_crc_at;
  put_into(block, in_head, crc);
  for (Block& held : held_) put_into(held, in_head, crc);
  for (Block& held : held_) pass_on(std::move(held));
  held_.clear();
}

void BlockFile::pass_on(Block block) {
  if (helpers_.empty()) return write(block);
  const size_t most = blocks_a_helper * helpers_.size();
  queue_.when(
      Deadline::after(Milliseconds::max()), [&](const Queue& queue) { return queue.fault || queue.blocks.size() < most; },
      [&](Queue& queue) {
        if (queue.fault) throw Error(*queue.fault);
        queue.blocks.push_back(std::move(block));
      });
}

void BlockFile::write(const Block& block) {
  const auto count = static_cast<int64_t>(block.bytes.size());
  {
    const TraceSpan span("digest", count);
    digests_.at(static_cast<size_t>(block.begin_bytes / block_bytes)) = digest(block.bytes);
  }
  if (work_.throttle) work_.throttle->pass(count);
  {
    const TraceSpan span("write", count);
    file_->write(block.begin_bytes, block.bytes);
  }
  queue_.with([&](Queue& queue) {
    queue.on_disk_bytes += count;
    if (work_.written) work_.written(queue.on_disk_bytes);
  });
}

void BlockFile::help() {
  name_trace_row(layout_.file + ", helper");
  if (work_.begin_thread) work_.begin_thread();
  for (;;) {
    std::optional<Block> block;
    bool dropped = false;
    queue_.when(
        Deadline::after(Milliseconds::max()), [](const Queue& queue) { return queue.ended || !queue.blocks.empty(); },
        [&](Queue& queue) {
          if (queue.blocks.empty()) return;
          block = std::move(queue.blocks.front());
          queue.blocks.pop_front();
          dropped = queue.fault.has_value();
        });
    if (!block) return;
    if (dropped) continue;
    auto written = capture([&] { write(*block); });
    if (written) continue;
    queue_.with([&](Queue& queue) {
      if (!queue.fault) queue.fault = std::move(written.fault);
    });
  }
}

void BlockFile::end_helpers() noexcept {
  queue_.with([](Queue& queue) { queue.ended = true; });
  for (std::thread& helper : helpers_) helper.join();
  helpers_.clear();
}

int64_t BlockFile::close() {
  assert(held_.empty() && item_ == layout_.items.size());
  end_helpers();
  queue_.with([](Queue& queue) {
    if (queue.fault) throw Error(*queue.fault);
  });
  const TraceSpan span("sync", layout_.file_bytes);
  return file_->close();
}

}  // namespace tessera
