#include "tessera/transfer/staged_write.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <numeric>

#include "tessera/storage/memory_storage.h"

namespace tessera {
namespace {

// A state whose file has some twenty blocks: large tensors, strided and small ones, an object.
struct State {
  std::vector<float> large = std::vector<float>(4'000'000);
  std::vector<float> strided = std::vector<float>(2'000'000);
  StateDict state;
  Described described;
  RankWrites writes;
  State() {
    std::iota(large.begin(), large.end(), 0.0f);
    std::iota(strided.begin(), strided.end(), 0.5f);
    const auto view = [](std::vector<float>& values, Sizes sizes) {
      return dense_view(reinterpret_cast<std::byte*>(values.data()), DType::float32, std::move(sizes));
    };
    View columns = view(strided, {1000, 1000});
    columns.strides = {2000, 2};
    state.add("large", replicated(view(large, {4'000'000})));
    state.add("strided", replicated(columns));
    state.add("small", replicated(view(large, {3})));
    state.add("object", Value("text"));
    described = describe(state, 0, 1);
    writes = plan_save({described.description}, "id").ranks[0];
  }
};

Bytes content(const Storage& storage, const Path& path) {
  const auto file = storage.open(path);
  Bytes bytes(static_cast<size_t>(file->size_bytes()));
  file->read(0, bytes);
  return bytes;
}

TEST(StagedWrite, WritesWhatTheOtherWritesThroughARingOfAnySize) {
  const State state;
  MemoryStorage straight;
  const Proof expected = write_shards(state.writes, state.described, straight, "");
  for (const int slabs : {least_slabs, 7, 1000}) {
    MemoryStorage storage;
    SlabRing ring(slabs, block_bytes);
    int64_t told = 0;
    bool staged = false;
    const Proof proof =
        write_shards_staged(state.writes, state.described, storage, "", ring,
                            {.write = {.progress = [&](int64_t done, int64_t) { told = done; }}, .staged = [&] { staged = true; }});
    EXPECT_EQ(proof, expected);
    EXPECT_TRUE(as_text(content(storage, proof.file)) == as_text(content(straight, proof.file)));
    EXPECT_TRUE(staged);
    EXPECT_EQ(told, proof.length_bytes);
    EXPECT_LE(ring.peak_bytes(), slabs * block_bytes);
  }
}

// The writer is held up until the copy is done and everything in memory has changed: what it writes is what was there before.
TEST(StagedWrite, WhatChangesAfterTheCopyIsNotWritten) {
  State state;
  MemoryStorage straight;
  const Proof expected = write_shards(state.writes, state.described, straight, "");
  MemoryStorage storage;
  SlabRing ring(1000, block_bytes);
  std::atomic<bool> changed = false;
  const auto copier = std::this_thread::get_id();
  const Proof proof = write_shards_staged(state.writes, state.described, storage, "", ring,
                                          {.check =
                                               [&] {
                                                 if (std::this_thread::get_id() != copier) changed.wait(false);
                                               },
                                           .staged =
                                               [&] {
                                                 std::ranges::fill(state.large, -1.0f);
                                                 std::ranges::fill(state.strided, -1.0f);
                                                 changed = true;
                                                 changed.notify_all();
                                               }});
  EXPECT_EQ(proof, expected);
  EXPECT_TRUE(content(storage, proof.file) == content(straight, proof.file));
}

TEST(StagedWrite, GivingUpInEitherThreadAtAnyBlockEndsBothAndGivesEverySlabBack) {
  const State state;
  const auto caller = std::this_thread::get_id();
  for (const bool in_writer : {false, true}) {
    for (int at = 0;; ++at) {
      MemoryStorage storage;
      SlabRing ring(least_slabs, block_bytes);
      std::atomic<int> left = at;
      const auto written = capture([&] {
        write_shards_staged(state.writes, state.described, storage, "", ring, {.check = [&] {
                              if ((std::this_thread::get_id() != caller) == in_writer && left-- == 0) {
                                throw Error({.code = Code::aborted, .what = "enough"});
                              }
                            }});
      });
      ring.restart();
      std::vector<Slab> all;
      for (int k = 0; k < least_slabs; ++k) all.push_back(ring.acquire());
      EXPECT_EQ(ring.waits(), 0);
      if (written) {
        EXPECT_GT(at, 15);
        break;
      }
      EXPECT_EQ(written.fault.what, "enough") << "at block " << at;
    }
  }
}

TEST(StagedWrite, ARankWithoutItemsIsStagedAtOnce) {
  MemoryStorage storage;
  SlabRing ring(least_slabs, block_bytes);
  bool staged = false;
  EXPECT_EQ(write_shards_staged({}, {}, storage, "", ring, {.staged = [&] { staged = true; }}), Proof{});
  EXPECT_TRUE(staged);
}

}  // namespace
}  // namespace tessera
