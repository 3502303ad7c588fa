#include "tessera/checkpoint/verify.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tessera/checkpoint/on_ranks_test.h"
#include "tessera/checkpoint/save.h"
#include "tessera/format/dcp.h"
#include "tessera/format/sidecar_index.h"
#include "tessera/storage/local_storage.h"
#include "tessera/storage/memory_storage.h"

namespace tessera {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::SizeIs;

// Two ranks with a tensor of more than two blocks each.
struct Saved {
  std::shared_ptr<MemoryStorage> storage = std::make_shared<MemoryStorage>();
  Saved() {
    all_well(on_ranks(2, [&](Comm& comm) {
      const int64_t rows = 600'000;
      std::vector<float> memory(static_cast<size_t>(rows), static_cast<float>(comm.rank()));
      StateDict state;
      const Box box{{rows * comm.rank()}, {rows}};
      state.add("w", TensorLeaf{DType::float32,
                                {2 * rows},
                                {{box, dense_view(reinterpret_cast<std::byte*>(memory.data()), DType::float32, box.sizes)}}});
      state.add("note", Value("text"));
      save(comm, *storage, "c", state);
    }));
  }
  Bytes content(const std::string& file) const { return read_file(*storage, "c/" + file, INT64_MAX); }
  // Puts another content in the file's place.
  void put(const std::string& file, const Bytes& bytes) const {
    MemoryStorage& disk = *storage;
    const Path staging = disk.stage("c/new", "x");
    disk.create(staging + "/new")->write(0, bytes);
    disk.commit_file(staging + "/new", "c/" + file, Replace::exchange);
    disk.remove(staging);
  }
};

TEST(Verify, ASoundCheckpointIsVerifiedToItsLastByte) {
  const Saved saved;
  for (const int threads : {1, 3}) {
    const VerifyReport report = verify(saved.storage, "c", {.threads = threads});
    EXPECT_THAT(report.damage, IsEmpty());
    EXPECT_THAT(report.strangers, IsEmpty());
    EXPECT_TRUE(report.has_sidecar);
    EXPECT_EQ(report.files, 4);
    EXPECT_GT(report.total_bytes, 4'800'000);
    EXPECT_EQ(report.verified_bytes, report.total_bytes);
    EXPECT_EQ(report.unverified_bytes, 0);
  }
}

// Who reads one key only is told what the index says.
TEST(Verify, AnIndexThatSaysOtherThanMetadataIsDamage) {
  const Saved saved;
  const Bytes metadata = saved.content(format::metadata_file);
  const format::Sidecar sidecar = format::decode_sidecar(saved.content(format::sidecar_file));
  const auto index_of = [&](const Manifest& manifest) {
    return format::encode_index(manifest, std::vector<std::string>{"__0_0.distcp", "__1_0.distcp"});
  };
  Manifest manifest = format::decode_metadata(metadata);
  saved.put(format::sidecar_file, format::encode_sidecar(sidecar, index_of(manifest)));
  EXPECT_THAT(verify(saved.storage, "c").damage, IsEmpty());
  std::get<TensorEntry>(manifest.entries.at("w").is).chunks.at(0).at.offset_bytes += 64;
  saved.put(format::sidecar_file, format::encode_sidecar(sidecar, index_of(manifest)));
  const VerifyReport report = verify(saved.storage, "c");
  ASSERT_THAT(report.damage, SizeIs(1));
  EXPECT_EQ(report.damage[0].fault.file, format::sidecar_file);
  format::Sidecar other_ends = sidecar;
  other_ends.metadata_ends = {};
  saved.put(format::sidecar_file, format::encode_sidecar(other_ends));
  EXPECT_THAT(verify(saved.storage, "c").damage, SizeIs(1));
}

TEST(Verify, EveryDamagedBlockIsListedWithItsKeys) {
  const Saved saved;
  Bytes bytes = saved.content("__1_0.distcp");
  bytes[5] ^= std::byte{1};
  bytes.back() ^= std::byte{1};
  saved.put("__1_0.distcp", bytes);
  const VerifyReport report = verify(saved.storage, "c");
  ASSERT_THAT(report.damage, SizeIs(2));
  EXPECT_EQ(report.damage[0].fault.file, "c/__1_0.distcp");
  EXPECT_EQ(report.damage[0].fault.offset_bytes, 0);
  EXPECT_EQ(report.damage[1].fault.offset_bytes, 2 << 20);
  EXPECT_THAT(report.damage[0].keys, ElementsAre("w"));
  EXPECT_EQ(report.damaged_bytes, static_cast<int64_t>(bytes.size()) - (1 << 20)) << "a block was good";
  EXPECT_EQ(report.unverified_bytes, 0);
  EXPECT_EQ(report.verified_bytes + report.damaged_bytes, report.total_bytes);
  EXPECT_THAT(verify(saved.storage, "c", {.depth = Depth::names_and_sizes}).damage, IsEmpty()) << "names and sizes are as they were";
}

TEST(Verify, AMissingAndAShortAndALongFileAreListedAtEveryDepth) {
  for (const Depth depth : {Depth::names_and_sizes, Depth::every_byte}) {
    const Saved saved;
    Bytes bytes = saved.content("__1_0.distcp");
    bytes.push_back(std::byte{0});
    saved.put("__1_0.distcp", bytes);
    EXPECT_THAT(verify(saved.storage, "c", {.depth = depth}).damage, SizeIs(1));
    bytes.resize(bytes.size() - 2);
    saved.put("__1_0.distcp", bytes);
    EXPECT_THAT(verify(saved.storage, "c", {.depth = depth}).damage, SizeIs(1));
  }
}

TEST(Verify, WhatIsNotOfTheCheckpointIsNamedAndNoDamage) {
  const Saved saved;
  saved.storage->create("c/README")->write(0, as_bytes("mine"));
  const VerifyReport report = verify(saved.storage, "c");
  EXPECT_THAT(report.strangers, ElementsAre("README"));
  EXPECT_THAT(report.damage, IsEmpty());
}

TEST(Verify, ADamagedHeadIsDamageAndNoCheckpointIsAnError) {
  const Saved saved;
  Bytes metadata = saved.content(format::metadata_file);
  metadata[metadata.size() / 2] ^= std::byte{1};
  saved.put(format::metadata_file, metadata);
  EXPECT_THAT(verify(saved.storage, "c").damage, SizeIs(1));
  EXPECT_EQ(capture([&] { verify(saved.storage, "nowhere"); }).fault.code, Code::not_found);
  EXPECT_EQ(capture([&] { verify(saved.storage, "c", {.threads = 0}); }).fault.code, Code::invalid_argument);
}

TEST(Verify, StocksBytesAreCountedAsVerifiedOnlyWhereAChecksumVouchesForThem) {
  const auto golden = std::make_shared<LocalStorage>(TESSERA_GOLDEN "/torch-2.13/fsdp1_sharded");
  const VerifyReport report = verify(golden, "ckpt");
  EXPECT_THAT(report.damage, IsEmpty());
  EXPECT_FALSE(report.has_sidecar);
  EXPECT_GT(report.verified_bytes, 0);
  EXPECT_GT(report.unverified_bytes, 0);
  EXPECT_EQ(report.verified_bytes + report.unverified_bytes, report.total_bytes);
}

}  // namespace
}  // namespace tessera
