#include "tessera/storage/local_file.h"

#include <cerrno>

namespace tessera {
namespace {

// Written bytes are handed to the disk in windows of this size, so that the sync at the end is short and progress is the disk's own.
constexpr int64_t writeback_bytes = int64_t{32} << 20;

class Writer final : public FileWriter {
 public:
  Writer(Descriptor descriptor, Path file) : descriptor_(std::move(descriptor)), file_(std::move(file)) {}

  void write(int64_t offset_bytes, std::span<const std::byte> bytes) override {
    while (!bytes.empty()) {
      const ssize_t count = descriptor_.files().pwrite(descriptor_.number(), bytes.data(), bytes.size(), offset_bytes);
      if (count < 0 && errno == EINTR) continue;
      if (count < 0) throw Error(os_fault(errno, "write", file_, offset_bytes));
      if (count == 0)
        throw Error({.code = Code::io, .what = "the file system takes no more bytes", .file = file_, .offset_bytes = offset_bytes});
      bytes = bytes.subspan(static_cast<size_t>(count));
      offset_bytes += count;
    }
    if (offset_bytes - begun_ >= writeback_bytes) begin_writeback(offset_bytes);
  }

  int64_t close() override {
    // Taken out, so that whoever calls again after a failure cannot sync again: the system forgets lost pages once it told.
    Descriptor mine = std::move(descriptor_);
    sync_descriptor(mine, file_);
    struct stat status{};
    if (mine.files().fstat(mine.number(), status) != 0) throw Error(os_fault(errno, "stat", file_));
    // Some network file systems report a failed write only here.
    if (mine.files().close(mine.release()) != 0 && errno != EINTR) throw Error(os_fault(errno, "close", file_));
    return status.st_size;
  }

 private:
  void begin_writeback(int64_t end_bytes) {
    const int failed = descriptor_.files().start_writeback(descriptor_.number(), begun_, end_bytes - begun_);
    const bool unsupported = failed != 0 && (errno == EINVAL || errno == ENOSYS || errno == ESPIPE || errno == EOPNOTSUPP);
    if (failed != 0 && !unsupported) throw Error(os_fault(errno, "write back", file_, begun_));
    begun_ = end_bytes;
  }

  Descriptor descriptor_;
  const Path file_;
  int64_t begun_ = 0;
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
