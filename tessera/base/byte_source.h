// tessera/base/byte_source.h: bytes that can be read from anywhere: a file, a part of one, or memory.
// Parsers take one, so that they read only what they need from a disk and can be fuzzed from memory.
// Errors      read() throws Error(corrupt, "file ends early") past the end, Error(io) when the system fails.
// Threads     const methods may be called from many threads at once.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <string>

#include "tessera/base/bytes.h"
#include "tessera/base/error.h"

namespace tessera {

class ByteSource {
 public:
  virtual ~ByteSource() = default;
  virtual int64_t size_bytes() const = 0;
  // Fills all of `into` from `offset_bytes` on.
  virtual void read(int64_t offset_bytes, std::span<std::byte> into) const = 0;
  // Fills the parts one after another from there on, by as few calls of the system as it takes.
  virtual void read_parts(int64_t offset_bytes, std::span<const std::span<std::byte>> parts) const {
    for (const auto& part : parts) {
      read(offset_bytes, part);
      offset_bytes += static_cast<int64_t>(part.size());
    }
  }
  // Bytes that are checked together, from multiples of it on: a part of such a piece costs as much as all of it. 0 where nothing is.
  virtual int64_t checked_together_bytes() const { return 0; }
  // What to call it in a message, and the place there of its first byte.
  virtual std::string file() const = 0;
  virtual int64_t origin_bytes() const = 0;
};

inline Error corrupt_at(const ByteSource& source, int64_t offset_bytes, std::string what) {
  return Error(
      {.code = Code::corrupt, .what = std::move(what), .file = source.file(), .offset_bytes = source.origin_bytes() + offset_bytes});
}

// True, with room to spare, when [offset, offset + count) lies inside size.
inline bool inside(int64_t offset_bytes, uint64_t count, int64_t size_bytes) {
  return offset_bytes >= 0 && offset_bytes <= size_bytes && count <= static_cast<uint64_t>(size_bytes - offset_bytes);
}

class MemorySource final : public ByteSource {
 public:
  explicit MemorySource(std::span<const std::byte> bytes, std::string file = {}) : bytes_(bytes), file_(std::move(file)) {}
  int64_t size_bytes() const override { return static_cast<int64_t>(bytes_.size()); }
  void read(int64_t offset_bytes, std::span<std::byte> into) const override {
    if (!inside(offset_bytes, into.size(), size_bytes())) throw corrupt_at(*this, offset_bytes, "file ends early");
    std::copy_n(bytes_.begin() + offset_bytes, into.size(), into.begin());
  }
  std::string file() const override { return file_; }
  int64_t origin_bytes() const override { return 0; }

 private:
  std::span<const std::byte> bytes_;
  std::string file_;
};

// [begin, begin + size) of another source, which must outlive it. Throws if that is not inside.
class PartSource final : public ByteSource {
 public:
  PartSource(const ByteSource& whole, int64_t begin_bytes, int64_t size_bytes) : whole_(whole), begin_(begin_bytes), size_(size_bytes) {
    if (size_bytes < 0 || !inside(begin_bytes, static_cast<uint64_t>(size_bytes), whole.size_bytes())) {
      throw corrupt_at(whole, begin_bytes, "file ends early");
    }
  }
  int64_t size_bytes() const override { return size_; }
  void read(int64_t offset_bytes, std::span<std::byte> into) const override {
    if (!inside(offset_bytes, into.size(), size_)) throw corrupt_at(*this, offset_bytes, "item ends early");
    whole_.read(begin_ + offset_bytes, into);
  }
  std::string file() const override { return whole_.file(); }
  int64_t origin_bytes() const override { return whole_.origin_bytes() + begin_; }

 private:
  const ByteSource& whole_;
  int64_t begin_;
  int64_t size_;
};

}  // namespace tessera
