// The two files that say what a checkpoint is, and every way in which one of them can be wrong.
#include "tessera/checkpoint/head.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tessera/checkpoint/on_ranks_test.h"
#include "tessera/checkpoint/save.h"
#include "tessera/format/dcp.h"
#include "tessera/storage/memory_storage.h"

namespace tessera {
namespace {

using ::testing::HasSubstr;

HeadBytes head_of_a_save(float value) {
  MemoryStorage storage;
  std::vector<float> memory(6, value);
  StateDict state;
  state.add("w", replicated(dense_view(reinterpret_cast<std::byte*>(memory.data()), DType::float32, {2, 3})));
  all_well(on_ranks(1, [&](Comm& comm) { save(comm, storage, "c", state); }));
  return read_head(storage, "c");
}

Fault fault_of_head(const HeadBytes& head) {
  const auto decoded = capture([&] { return decode_head(head); });
  EXPECT_FALSE(decoded);
  return decoded.fault;
}

TEST(Head, OfASaveNamesItsSaveAndEveryFile) {
  const Head head = decode_head(head_of_a_save(1));
  ASSERT_TRUE(head.sidecar);
  EXPECT_EQ(head.sidecar->save_id, head.manifest.save_id);
  EXPECT_EQ(head.sidecar->files.size(), 1U);
  EXPECT_TRUE(head.sidecar->files.contains("__0_0.distcp"));
}

TEST(Head, AMissingSidecarIsAnErrorAndNotAStepDown) {
  HeadBytes head = head_of_a_save(1);
  head.sidecar.clear();
  EXPECT_EQ(fault_of_head(head).code, Code::corrupt);
  EXPECT_THAT(fault_of_head(head).what, HasSubstr("missing"));
}

TEST(Head, WhatWasSavedBeforeThereWereSidecarsIsStillRead) {
  const HeadBytes now = head_of_a_save(1);
  Manifest manifest = decode_head(now).manifest;
  for (const int version : {-1, 0}) {
    manifest.writer_version = version;
    if (version < 0) manifest.save_id.clear();
    const Head head = decode_head({format::encode_metadata(manifest), {}});
    EXPECT_EQ(head.manifest, manifest);
    EXPECT_FALSE(head.sidecar);
  }
}

TEST(Head, TheSidecarOfAnotherSaveIsRefused) {
  HeadBytes head = head_of_a_save(1);
  head.sidecar = head_of_a_save(2).sidecar;
  EXPECT_EQ(fault_of_head(head).code, Code::corrupt);
}

TEST(Head, EveryChangedByteOfEitherFileIsTold) {
  const HeadBytes good = head_of_a_save(1);
  for (Bytes HeadBytes::* file : {&HeadBytes::metadata, &HeadBytes::sidecar}) {
    for (size_t at = 0; at < (good.*file).size(); ++at) {
      HeadBytes bad = good;
      (bad.*file)[at] ^= std::byte{0x20};
      EXPECT_EQ(fault_of_head(bad).code, Code::corrupt) << "byte " << at;
    }
  }
}

// A digest that fits does not make a manifest true that names what was never published.
TEST(Head, AManifestThatReachesBeyondThePublishedFilesIsRefused) {
  const Head good = decode_head(head_of_a_save(1));
  const auto with = [&](auto change) {
    Manifest manifest = good.manifest;
    change(std::get<TensorEntry>(manifest.entries.at("w").is).chunks.front().at);
    HeadBytes head{format::encode_metadata(manifest), {}};
    format::Sidecar sidecar = *good.sidecar;
    sidecar.metadata_bytes = static_cast<int64_t>(head.metadata.size());
    sidecar.metadata = digest(head.metadata);
    head.sidecar = format::encode_sidecar(sidecar);
    return head;
  };
  EXPECT_TRUE(capture([&] { decode_head(with([](Extent&) {})); }));
  EXPECT_THAT(fault_of_head(with([](Extent& at) { at.file = "other"; })).what, HasSubstr("does not know"));
  EXPECT_THAT(fault_of_head(with([](Extent& at) { at.offset_bytes += 1; })).what, HasSubstr("beyond"));
}

TEST(Head, AnEmptySidecarFileIsNotNoSidecar) {
  MemoryStorage storage;
  const HeadBytes good = head_of_a_save(1);
  const Path staging = storage.stage("c", "id");
  storage.create(staging + "/" + format::metadata_file)->write(0, good.metadata);
  storage.create(staging + "/" + format::sidecar_file);
  EXPECT_EQ(capture([&] { read_head(storage, staging); }).fault.code, Code::corrupt);
}

}  // namespace
}  // namespace tessera
