#include "tessera/transfer/checked_source.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace tessera {
namespace {

constexpr int64_t block = 4096;

// A file of a little over four blocks, as it was published, and a copy of it that counts what is read.
class Counting final : public ByteSource {
 public:
  explicit Counting(const Bytes& bytes) : bytes_(bytes), source_(bytes_, "f") {}
  int64_t size_bytes() const override { return source_.size_bytes(); }
  void read(int64_t offset_bytes, std::span<std::byte> into) const override {
    source_.read(offset_bytes, into);
    read_ += static_cast<int64_t>(into.size());
  }
  std::string file() const override { return "f"; }
  int64_t origin_bytes() const override { return 0; }
  int64_t take_count() const { return std::exchange(read_, 0); }

 private:
  const Bytes bytes_;
  const MemorySource source_;
  mutable int64_t read_ = 0;
};

struct Published {
  Bytes bytes = Bytes(4 * block + 100);
  std::shared_ptr<format::Sidecar> sidecar = std::make_shared<format::Sidecar>();
  Published() {
    for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<std::byte>(i * 2654435761U >> 11);
    sidecar->block_bytes = block;
    format::FileDigests& file = sidecar->files["f"];
    file.length_bytes = static_cast<int64_t>(bytes.size());
    for (size_t at = 0; at < bytes.size(); at += block) {
      file.blocks.push_back(digest(std::span(bytes).subspan(at, std::min<size_t>(block, bytes.size() - at))));
    }
  }
  std::shared_ptr<Counting> file() const { return std::make_shared<Counting>(bytes); }
  CheckedSource checked(std::shared_ptr<const ByteSource> file) const {
    return CheckedSource(std::move(file), "f", sidecar, std::make_shared<BlockCache>());
  }
};

TEST(CheckedSource, GivesEveryRangeAsItIs) {
  const Published published;
  const CheckedSource source = published.checked(published.file());
  for (const int64_t begin : {int64_t{0}, int64_t{1}, block - 1, block, 2 * block + 7, 4 * block, 4 * block + 99}) {
    for (int64_t end = begin; end <= source.size_bytes(); end += end < begin + 3 ? 1 : 1021) {
      Bytes got(static_cast<size_t>(end - begin));
      source.read(begin, got);
      EXPECT_TRUE(std::equal(got.begin(), got.end(), published.bytes.begin() + begin)) << begin << " to " << end;
    }
  }
  Bytes beyond(2);
  EXPECT_FALSE(capture([&] { source.read(source.size_bytes() - 1, beyond); }));
}

TEST(CheckedSource, ReadsExactlyTheBlocksThatAreTouchedAndEachOnce) {
  const Published published;
  const auto file = published.file();
  const CheckedSource source = published.checked(file);
  Bytes ten(10);
  source.read(block + 5, ten);
  EXPECT_EQ(file->take_count(), block);
  source.read(block + 500, ten);
  EXPECT_EQ(file->take_count(), 0) << "the block is still known";
  Bytes two(2 * block);
  source.read(2 * block, two);
  EXPECT_EQ(file->take_count(), 2 * block);
  source.read(4 * block, ten);
  EXPECT_EQ(file->take_count(), 100) << "the last block is short";
}

TEST(CheckedSource, EveryChangedByteIsToldByWhoeverTouchesItsBlockAndByNobodyElse) {
  const Published published;
  for (size_t at = 0; at < published.bytes.size(); at += 97) {
    Published damaged;
    damaged.bytes[at] ^= std::byte{4};
    const CheckedSource source = damaged.checked(damaged.file());
    for (int64_t b = 0; b < 5; ++b) {
      Bytes some(b == 4 ? 100 : at % 2 ? block : 1);  // whole blocks and parts
      const auto read = capture([&] { source.read(b * block, some); });
      const bool hit = static_cast<int64_t>(at) / block == b;
      EXPECT_EQ(bool(read), !hit) << "byte " << at << ", block " << b;
      if (!hit) continue;
      EXPECT_EQ(read.fault.code, Code::corrupt);
      EXPECT_EQ(read.fault.file, "f");
      EXPECT_EQ(read.fault.offset_bytes, b * block);
    }
  }
}

TEST(CheckedSource, AnotherLengthAndAnotherNameAreRefusedBeforeAnythingIsRead) {
  Published published;
  published.bytes.pop_back();
  EXPECT_EQ(capture([&] { published.checked(published.file()); }).fault.code, Code::corrupt);
  Published other;
  const auto unknown = capture([&] { CheckedSource(other.file(), "g", other.sidecar, std::make_shared<BlockCache>()); });
  EXPECT_EQ(unknown.fault.code, Code::corrupt);
}

TEST(BlockCache, KeepsTheLastUsedAndNoMoreThanItMay) {
  BlockCache cache;
  const auto content = std::make_shared<Bytes>(size_t{4} << 20);
  for (int64_t b = 0; b < 4; ++b) cache.keep("f", b, content);
  EXPECT_TRUE(cache.find("f", 0));
  cache.keep("f", 4, content);
  EXPECT_TRUE(cache.find("f", 0)) << "it was used after the others";
  EXPECT_FALSE(cache.find("f", 1));
  EXPECT_FALSE(cache.find("g", 0));
  cache.keep("f", 5, std::make_shared<Bytes>(size_t{64} << 20));
  EXPECT_TRUE(cache.find("f", 5)) << "one is always kept";
}

}  // namespace
}  // namespace tessera
