// Blocks against the archives that they are cut from: for every way to cut, the file and its digests are those of one written in one piece.
#include "tessera/transfer/block_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tessera/format/item.h"
#include "tessera/storage/memory_storage.h"

namespace tessera {
namespace {

// Bytes of which no piece is like another, enough for the largest case. Made once, and compared as text, as loops over bytes take minutes
// under TSan.
std::span<const std::byte> pattern() {
  static const std::vector<uint32_t> words = [] {
    std::vector<uint32_t> all(16 * block_bytes / sizeof(uint32_t));
    for (uint32_t i = 0; i < all.size(); ++i) all[i] = i * 2654435761U;
    return all;
  }();
  return std::as_bytes(std::span(words));
}

// Items of these data sizes, as bytes of int8, and what the file must be.
struct Made {
  std::vector<Bytes> data;
  FileLayout layout;
  Bytes expected;
};

Made make(const std::vector<int64_t>& sizes) {
  Made made;
  for (const int64_t size : sizes) {
    const auto piece = pattern().subspan(made.expected.size(), static_cast<size_t>(size));
    Bytes data(piece.begin(), piece.end());
    const Sizes shape{size};
    for (const Bytes& part :
         {format::item_head(DType::int8, shape, crc32(data)), data, format::item_tail(DType::int8, shape, crc32(data))}) {
      made.expected.insert(made.expected.end(), part.begin(), part.end());
    }
    made.layout.add_tensor(DType::int8, shape);
    made.data.push_back(std::move(data));
  }
  return made;
}

// In runs of at most `run_bytes`, as strided memory would give them.
void put(BlockCutter& cutter, const Made& made, size_t run_bytes) {
  for (size_t k = 0; k < made.data.size(); ++k) {
    cutter.put(made.layout.items[k].frame->head);
    std::span<const std::byte> data = made.data[k];
    for (; !data.empty(); data = data.subspan(std::min(run_bytes, data.size()))) cutter.put(data.first(std::min(run_bytes, data.size())));
    cutter.put(made.layout.items[k].frame->tail);
  }
  cutter.finish();
}

Bytes content(const MemoryStorage& storage) {
  const auto source = storage.open("f");
  Bytes bytes(static_cast<size_t>(source->size_bytes()));
  source->read(0, bytes);
  return bytes;
}

// Sizes that put heads, data and tails on every side of the edges of blocks.
std::vector<std::vector<int64_t>> cases() {
  std::vector<std::vector<int64_t>> all{{}, {0}, {1}, {0, 0, 0}, {5, 7, 0, 9}, {3 * block_bytes}, {block_bytes, 1, 2 * block_bytes, 0, 3}};
  const int64_t head = format::item_frame(DType::int8, Sizes{block_bytes}).data_offset_bytes;
  for (int64_t shift = -head - 400; shift <= 400; shift += 37) {
    all.push_back({block_bytes + shift, 2 * block_bytes, 10});
    all.push_back({block_bytes - head + shift, 3, block_bytes, 5});
  }
  return all;
}

TEST(BlockFile, IsTheFileThatOnePieceWouldBeAndProvesEveryBlock) {
  for (const auto& sizes : cases()) {
    const Made made = make(sizes);
    for (const bool borrow : {true, false}) {
      for (const size_t run : {size_t{100'003}, size_t{8} << 20}) {
        const int threads = run > block_bytes ? 3 : 1;
        MemoryStorage storage;
        SlabRing ring(slabs_for(threads), block_bytes);
        int64_t told = 0;
        BlockFile file(storage.create("f"), made.layout, {.threads = threads, .written = [&](int64_t bytes) { told = bytes; }});
        BlockCutter cutter(ring, borrow, [&](Block block) { file.take(std::move(block)); });
        put(cutter, made, run);
        EXPECT_EQ(file.close(), static_cast<int64_t>(made.expected.size()));
        EXPECT_EQ(told, static_cast<int64_t>(made.expected.size()));
        EXPECT_TRUE(as_text(content(storage)) == as_text(made.expected));
        std::vector<Digest> digests;
        for (size_t at = 0; at < made.expected.size(); at += block_bytes) {
          digests.push_back(digest(std::span(made.expected).subspan(at, std::min<size_t>(block_bytes, made.expected.size() - at))));
        }
        EXPECT_EQ(file.digests(), digests);
        if (threads == 1) {
          EXPECT_EQ(ring.waits(), 0);
        }
      }
    }
  }
}

TEST(BlockFile, AFailedWriteIsThrownAndEverySlabComesBack) {
  class Full final : public FileWriter {
   public:
    void write(int64_t offset_bytes, std::span<const std::byte>) override {
      throw Error({.code = Code::no_space, .what = "write", .offset_bytes = offset_bytes});
    }
    int64_t close() override { return 0; }
  };
  const Made made = make({13 * block_bytes + 5});
  for (const int threads : {1, 2, 4}) {
    SlabRing ring(slabs_for(threads), block_bytes);
    {
      BlockFile file(std::make_unique<Full>(), made.layout, {.threads = threads});
      BlockCutter cutter(ring, false, [&](Block block) { file.take(std::move(block)); });
      const auto written = capture([&] {
        put(cutter, made, block_bytes);
        file.close();
      });
      EXPECT_EQ(written.fault.code, Code::no_space);
    }
    ring.restart();
    std::vector<Slab> all;
    for (int k = 0; k < slabs_for(threads); ++k) all.push_back(ring.acquire());
    EXPECT_EQ(ring.waits(), 0);
  }
}

}  // namespace
}  // namespace tessera
