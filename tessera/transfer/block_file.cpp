#include "tessera/transfer/block_file.h"

#include <algorithm>
#include <cassert>
#include <cstring>

#include "tessera/base/stream_copy.h"
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

void BlockCutter::put(std::span<const std::byte> bytes, bool borrow) {
  const auto whole = static_cast<size_t>(ring_.slab_bytes());
  while (!bytes.empty()) {
    if (borrow && filled_ == 0 && bytes.size() >= whole) {
      take_({begin_, bytes.first(whole)});
      begin_ += ring_.slab_bytes();
      bytes = bytes.subspan(whole);
      continue;
    }
    if (!slab_) slab_ = ring_.acquire();
    const auto piece = bytes.first(std::min(bytes.size(), whole - filled_));
    if (past_cache_) stream_copy(slab_.data() + filled_, piece.data(), piece.size());
    else std::memcpy(slab_.data() + filled_, piece.data(), piece.size());
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
  const auto blocks = static_cast<size_t>(format::block_count(layout.file_bytes, block_bytes));
  digests_.resize(blocks);
  crcs_.resize(blocks);
  // Fewer helpers than asked for are slower, and no failure.
  capture([&] {
    for (int t = 1; t < work_.threads; ++t) {
      helpers_.emplace_back([this] {
        name_trace_row(layout_.file, ", helper");
        if (work_.begin_thread) work_.begin_thread();
        while (run_one(true)) {
        }
      });
    }
  });
}

BlockFile::~BlockFile() {
  // What has not been closed is not to be finished: blocks that wait are dropped.
  queue_.with([](Queue& queue) {
    if (!queue.fault) queue.fault = Fault{.code = Code::aborted};
  });
  if (work_.throttle) work_.throttle->end();
  end_helpers();
}

// An item is complete in the block where its data ends; its head may stand in that block or in one that is held. A block without a slab
// lies in somebody's memory and is nothing but data of one item: whoever is free takes its CRC.
void BlockFile::take(Block block) {
  assert(block.begin_bytes == taken_bytes_);
  const int64_t begin = block.begin_bytes, end = end_of(block);
  taken_bytes_ = end;
  const bool borrowed = !block.slab;
  const std::span bytes = block.bytes;
  if (borrowed) hand_out({std::move(block), true});
  bool waits = false;
  while (item_ < layout_.items.size()) {
    const ItemPlace& item = layout_.items[item_];
    if (item.begin_bytes >= end) break;
    if (!item.frame) {
      if (item.end_bytes > end) break;
      ++item_;
      continue;
    }
    const int64_t from = std::max(item.data_begin_bytes, begin);
    const int64_t to = std::min(item.data_end_bytes, end);
    if (from < to && borrowed) {
      pieces_.push_back({.count_bytes = to - from, .block = static_cast<size_t>(begin / block_bytes)});
    } else if (from < to) {
      const TraceSpan span("crc", to - from);
      pieces_.push_back(
          {.count_bytes = to - from, .crc = crc32(bytes.subspan(static_cast<size_t>(from - begin), static_cast<size_t>(to - from)))});
    }
    if (item.data_end_bytes > end) {
      waits = item.data_begin_bytes > begin;
      break;
    }
    complete(borrowed ? nullptr : &block, item);
    if (item.end_bytes > end) break;
    crc_.reset();
    ++item_;
  }
  if (borrowed) return;
  if (waits) held_.push_back(std::move(block));
  else hand_out({std::move(block)});
}

// The checksum is known: it goes into the tail, and into the head wherever that stands.
void BlockFile::complete(Block* block, const ItemPlace& item) {
  if (!crc_) crc_ = crc_of_pieces();
  const auto crc = std::as_bytes(std::span(&*crc_, 1));
  const int64_t in_head = item.begin_bytes + item.frame->head_crc_at;
  if (block) {
    put_into(*block, item.data_end_bytes + item.frame->tail_crc_at, crc);
    put_into(*block, in_head, crc);
  }
  for (Block& held : held_) put_into(held, in_head, crc);
  for (Block& held : held_) hand_out({std::move(held)});
  held_.clear();
}

uint32_t BlockFile::crc_of_pieces() {
  const bool some_are_out = std::ranges::any_of(pieces_, [](const Piece& piece) { return piece.block.has_value(); });
  if (some_are_out) {
    while (run_one(false)) {
    }
    queue_.when(
        Deadline::after(Milliseconds::max()), [](const Queue& queue) { return queue.running == 0; },
        [](const Queue& queue) {
          if (queue.fault) throw Error(*queue.fault);
        });
  }
  uint32_t crc = 0;
  for (const Piece& piece : pieces_) crc = joined_crc32(crc, piece.block ? crcs_[*piece.block] : piece.crc, piece.count_bytes);
  pieces_.clear();
  return crc;
}

// To a helper, or done here and now where there is none or all have enough to do.
void BlockFile::hand_out(Task task) {
  if (helpers_.empty()) return run(task);
  const size_t most = blocks_a_helper * helpers_.size();
  bool full = false;
  queue_.with([&](Queue& queue) {
    if (queue.fault) throw Error(*queue.fault);
    full = queue.tasks.size() >= most;
    queue.tasks.push_back(std::move(task));
  });
  if (full) run_one(false);
}

// Runs the task that has waited longest. False if there is none: with `wait`, if there will be none.
bool BlockFile::run_one(bool wait) {
  std::optional<Task> task;
  bool dropped = false;
  const auto next = [&](Queue& queue) {
    if (queue.tasks.empty()) return;
    task = std::move(queue.tasks.front());
    queue.tasks.pop_front();
    ++queue.running;
    dropped = queue.fault.has_value();
  };
  const auto ready = [](const Queue& queue) { return queue.ended || !queue.tasks.empty(); };
  if (wait) queue_.when(Deadline::after(Milliseconds::max()), ready, next);
  else queue_.with(next);
  if (!task) return false;
  auto done = capture([&] {
    if (!dropped) run(*task);
  });
  task.reset();  // its slab goes back before anybody is told
  queue_.with([&](Queue& queue) {
    --queue.running;
    if (!done && !queue.fault) queue.fault = std::move(done.fault);
  });
  return true;
}

void BlockFile::run(const Task& task) {
  const std::span bytes = task.block.bytes;
  const auto count = static_cast<int64_t>(bytes.size());
  const auto index = static_cast<size_t>(task.block.begin_bytes / block_bytes);
  if (task.with_crc) {
    const TraceSpan span("crc", count);
    crcs_.at(index) = crc32(bytes);
  }
  {
    const TraceSpan span("digest", count);
    digests_.at(index) = digest(bytes);
  }
  if (work_.throttle) work_.throttle->pass(count);
  {
    const TraceSpan span("write", count);
    file_->write(task.block.begin_bytes, bytes);
  }
  queue_.with([&](Queue& queue) {
    queue.on_disk_bytes += count;
    if (work_.written) work_.written(queue.on_disk_bytes);
  });
}

void BlockFile::end_helpers() noexcept {
  queue_.with([](Queue& queue) { queue.ended = true; });
  for (std::thread& helper : helpers_) helper.join();
  helpers_.clear();
}

int64_t BlockFile::close() {
  assert(held_.empty() && item_ == layout_.items.size());
  if (!helpers_.empty()) {
    while (run_one(false)) {
    }
  }
  end_helpers();
  queue_.with([&](Queue& queue) {
    if (queue.fault) throw Error(*queue.fault);
    // The file's length need not tell: room may have been taken beforehand.
    if (queue.on_disk_bytes != layout_.file_bytes)
      throw Error({.code = Code::internal, .what = "not every block was written", .file = layout_.file});
  });
  const TraceSpan span("sync", layout_.file_bytes);
  return file_->close();
}

}  // namespace tessera
