#include "tessera/storage/local_file.h"

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <climits>
#include <cstring>
#include <memory>
#include <mutex>
#include <new>
#include <vector>

#include "tessera/base/guarded.h"

namespace tessera {
namespace {

// After so many written bytes the disk is told to begin with what it has, so that it works while the rest is hashed, the sync at the end is
// short, and progress is the disk's own. Of 1, 8 and 32 MiB measured, 8 was the fastest by a little.
constexpr int64_t writeback_bytes = int64_t{8} << 20;

constexpr size_t copied_bytes = size_t{1} << 20;
constexpr int64_t page_bytes = 4096;  // of which direct writes are made: nearly all disks take them

bool in_pages(int64_t number) { return number % page_bytes == 0; }

class Writer final : public FileWriter {
 public:
  Writer(Descriptor descriptor, Path file) : descriptor_(std::move(descriptor)), file_(std::move(file)) {}

  bool prepare(int64_t total_bytes, WriteMode mode) override {
    if (mode != WriteMode::direct) return true;
    FileSystem& files = descriptor_.files();
    // Room first: writes that make a file longer go one after another.
    if (total_bytes > 0 && files.preallocate(descriptor_.number(), total_bytes) != 0) {
      if (errno == ENOSPC || errno == EDQUOT) throw Error(os_fault(errno, "take room", file_));
    }
    direct_ = files.set_direct(descriptor_.number(), true) == 0;
    return direct_;
  }

  void write(int64_t offset_bytes, std::span<const std::byte> bytes) override {
    if (!direct_) return write_buffered(offset_bytes, bytes);
    const auto whole = bytes.size() - bytes.size() % page_bytes;
    if (!in_pages(offset_bytes)) throw Error({.code = Code::internal, .what = "a direct write of no page", .file = file_});
    write_direct(offset_bytes, bytes.first(whole));
    if (whole == bytes.size()) return;
    // What is no page is the file's end, and goes through the page cache when no other write is under way.
    end_.with([&](End& end) {
      if (!end.bytes.empty()) throw Error({.code = Code::internal, .what = "two ends of one file", .file = file_});
      end = {offset_bytes + static_cast<int64_t>(whole), {bytes.begin() + static_cast<std::ptrdiff_t>(whole), bytes.end()}};
    });
  }

  int64_t close() override {
    // Taken out, so that whoever calls again after a failure cannot sync again: the system forgets lost pages once it told.
    Descriptor mine = std::move(descriptor_);
    if (direct_) {
      if (mine.files().set_direct(mine.number(), false) != 0) throw Error(os_fault(errno, "write through the page cache again", file_));
      end_.with([&](End& end) { put(mine, end.at_bytes, end.bytes); });
    }
    sync_descriptor(mine, file_);
    struct stat status{};
    if (mine.files().fstat(mine.number(), status) != 0) throw Error(os_fault(errno, "stat", file_));
    // Some network file systems report a failed write only here.
    if (mine.files().close(mine.release()) != 0 && errno != EINTR) throw Error(os_fault(errno, "close", file_));
    return status.st_size;
  }

 private:
  struct End {
    int64_t at_bytes = 0;
    std::vector<std::byte> bytes;
  };

  void put(const Descriptor& into, int64_t offset_bytes, std::span<const std::byte> bytes) const {
    while (!bytes.empty()) {
      const ssize_t count = into.files().pwrite(into.number(), bytes.data(), bytes.size(), offset_bytes);
      if (count < 0 && errno == EINTR) continue;
      if (count < 0 && errno == EINVAL && direct_) {
        throw Error({.code = Code::unsupported,
                     .what = "this file system takes no direct writes of pages",
                     .file = file_,
                     .hint = "save with WriteMode::buffered, or run `tessera probe` on it"});
      }
      if (count < 0) throw Error(os_fault(errno, "write", file_, offset_bytes));
      if (count == 0)
        throw Error({.code = Code::io, .what = "the file system takes no more bytes", .file = file_, .offset_bytes = offset_bytes});
      bytes = bytes.subspan(static_cast<size_t>(count));
      offset_bytes += count;
    }
  }

  // Memory that does not begin with a page is copied to some that does: the page cache would have copied it too.
  void write_direct(int64_t offset_bytes, std::span<const std::byte> bytes) const {
    if (in_pages(static_cast<int64_t>(reinterpret_cast<uintptr_t>(bytes.data())))) return put(descriptor_, offset_bytes, bytes);
    struct Free {
      void operator()(std::byte* data) const { ::operator delete(data, std::align_val_t{page_bytes}); }
    };
    thread_local std::unique_ptr<std::byte, Free> pages;
    if (!pages) pages.reset(static_cast<std::byte*>(::operator new(copied_bytes, std::align_val_t{page_bytes})));
    while (!bytes.empty()) {
      const auto piece = bytes.first(std::min(bytes.size(), copied_bytes));
      std::memcpy(pages.get(), piece.data(), piece.size());
      put(descriptor_, offset_bytes, std::span(pages.get(), piece.size()));
      offset_bytes += static_cast<int64_t>(piece.size());
      bytes = bytes.subspan(piece.size());
    }
  }

  void write_buffered(int64_t offset_bytes, std::span<const std::byte> bytes) {
    const auto written = static_cast<int64_t>(bytes.size());
    {
      // The system lets one thread at a time into a file's pages, and the others spin: here they sleep.
      const std::lock_guard turn(one_at_a_time_);
      put(descriptor_, offset_bytes, bytes);
    }
    // Whoever crosses the line of a window begins it, whatever the order in which threads write.
    const int64_t before = written_.fetch_add(written);
    if (before / writeback_bytes != (before + written) / writeback_bytes) begin_writeback();
  }

  void begin_writeback() {
    const int failed = descriptor_.files().start_writeback(descriptor_.number(), 0, 0);  // all of the file
    const bool unsupported = failed != 0 && (errno == EINVAL || errno == ENOSYS || errno == ESPIPE || errno == EOPNOTSUPP);
    if (failed != 0 && !unsupported) throw Error(os_fault(errno, "write back", file_));
  }

  Descriptor descriptor_;
  const Path file_;
  std::mutex one_at_a_time_;
  std::atomic<int64_t> written_ = 0;
  bool direct_ = false;
  Guarded<End> end_;  // of a direct file: what is less than a page
};

class Source final : public ByteSource {
 public:
  Source(Descriptor descriptor, Path file, int64_t size_bytes)
      : descriptor_(std::move(descriptor)), file_(std::move(file)), size_(size_bytes) {}

  int64_t size_bytes() const override { return size_; }
  int64_t origin_bytes() const override { return 0; }
  std::string file() const override { return file_; }

  void read(int64_t offset_bytes, std::span<std::byte> into) const override {
    if (!inside(offset_bytes, into.size(), size_)) throw corrupt_at(*this, offset_bytes, "file ends early");
    while (!into.empty()) {
      const ssize_t count = descriptor_.files().pread(descriptor_.number(), into.data(), into.size(), offset_bytes);
      if (count < 0 && errno == EINTR) continue;
      if (count < 0) throw Error(os_fault(errno, "read", file_, offset_bytes));
      if (count == 0) throw corrupt_at(*this, offset_bytes, "file ends early");  // it was cut after it was opened
      into = into.subspan(static_cast<size_t>(count));
      offset_bytes += count;
    }
  }

  void read_parts(int64_t offset_bytes, std::span<const std::span<std::byte>> parts) const override {
    std::vector<iovec> left;
    left.reserve(parts.size());
    uint64_t count = 0;
    for (const auto& part : parts) {
      if (part.empty()) continue;
      left.push_back({part.data(), part.size()});
      count += part.size();
    }
    if (!inside(offset_bytes, count, size_)) throw corrupt_at(*this, offset_bytes, "file ends early");
    for (size_t first = 0; first < left.size();) {
      const auto some = std::span<const iovec>(left).subspan(first, std::min<size_t>(left.size() - first, IOV_MAX));
      const ssize_t got = descriptor_.files().preadv(descriptor_.number(), some, offset_bytes);
      if (got < 0 && errno == EINTR) continue;
      if (got < 0) throw Error(os_fault(errno, "read", file_, offset_bytes));
      if (got == 0) throw corrupt_at(*this, offset_bytes, "file ends early");  // it was cut after it was opened
      offset_bytes += got;
      auto taken = static_cast<size_t>(got);
      for (; first < left.size() && taken >= left[first].iov_len; ++first) taken -= left[first].iov_len;
      if (taken > 0) left[first] = {static_cast<std::byte*>(left[first].iov_base) + taken, left[first].iov_len - taken};
    }
  }

 private:
  const Descriptor descriptor_;
  const Path file_;
  const int64_t size_;
};

}  // namespace

std::unique_ptr<FileWriter> local_writer(Descriptor descriptor, Path file) {
  return std::make_unique<Writer>(std::move(descriptor), std::move(file));
}

std::unique_ptr<ByteSource> local_source(Descriptor descriptor, Path file, int64_t size_bytes) {
  return std::make_unique<Source>(std::move(descriptor), std::move(file), size_bytes);
}

}  // namespace tessera
