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
    sidecar.metadata_ends = format::digest_of_ends(head.metadata);
    head.sidecar = format::encode_sidecar(sidecar);
    return head;
  };
  EXPECT_TRUE(capture([&] { decode_head(with([](Extent&) {})); }));
  EXPECT_THAT(fault_of_head(with([](Extent& at) { at.file = "other"; })).what, HasSubstr("does not know"));
  EXPECT_THAT(fault_of_head(with([](Extent& at) { at.offset_bytes += 1; })).what, HasSubstr("beyond"));
}

// A checkpoint of many keys, whose `.metadata` is far longer than its two ends, and a second rank's file.
struct ManyKeys {
  MemoryStorage storage;
  std::vector<std::string> keys;
  ManyKeys() {
    std::vector<std::vector<float>> memory;
    for (int k = 0; k < 300; ++k) keys.push_back("layers." + std::to_string(k));
    for (size_t k = 0; k < keys.size(); ++k) memory.emplace_back(6, static_cast<float>(k));
    all_well(on_ranks(2, [&](Comm& comm) {
      StateDict state;
      for (size_t k = 0; k < keys.size(); ++k) {
        const Box box{{comm.rank(), 0}, {1, 3}};
        auto* const data = reinterpret_cast<std::byte*>(memory[k].data() + 3 * comm.rank());
        state.add(keys[k], TensorLeaf{DType::float32, {2, 3}, {{box, dense_view(data, DType::float32, box.sizes)}}});
      }
      state.add("object", Value("text"));
      save(comm, storage, "c", state);
    }));
  }
  Bytes content(const std::string& file) const { return read_file(storage, "c/" + file, INT64_MAX); }
  void put(const std::string& file, const Bytes& bytes) {
    const Path staging = storage.stage("c/new", "x");
    storage.create(staging + "/new")->write(0, bytes);
    storage.commit_file(staging + "/new", "c/" + file, Replace::exchange);
    storage.remove(staging);
  }
  void flip(const std::string& file, size_t at) {
    Bytes bytes = content(file);
    bytes.at(at) ^= std::byte{1};
    put(file, bytes);
  }
  Outcome<Head> head_of(const std::vector<std::string>& wanted) const {
    return capture([&] { return read_head_of(storage, "c", wanted); });
  }
};

TEST(HeadOfSomeKeys, IsWhatTheWholeHeadSaysOfThem) {
  const ManyKeys saved;
  const Head whole = decode_head(read_head(saved.storage, "c"));
  for (const std::vector<std::string>& wanted :
       {std::vector<std::string>{"layers.7"}, {"object", "layers.299", "layers.0"}, {"not there"}}) {
    const Head some = saved.head_of(wanted).or_throw();
    EXPECT_EQ(some.manifest.save_id, whole.manifest.save_id);
    EXPECT_EQ(some.manifest.writer_version, whole.manifest.writer_version);
    for (const std::string& key : wanted) {
      EXPECT_EQ(some.manifest.entries.contains(key), whole.manifest.entries.contains(key));
      if (whole.manifest.entries.contains(key)) {
        EXPECT_EQ(some.manifest.entries.at(key), whole.manifest.entries.at(key));
      }
    }
    for (const auto& [name, file] : some.sidecar->files) EXPECT_EQ(file, whole.sidecar->files.at(name));
  }
  EXPECT_EQ(saved.head_of({"object"}).or_throw().sidecar->files.size(), 1U) << "the file that it lies in";
}

TEST(HeadOfSomeKeys, ReadsNeitherTheMiddleOfMetadataNorTheRecordsOfOthers) {
  ManyKeys saved;
  saved.flip(format::metadata_file, saved.content(format::metadata_file).size() / 2);
  EXPECT_TRUE(saved.head_of({"layers.7"}));
  EXPECT_FALSE(capture([&] { decode_head(read_head(saved.storage, "c")); })) << "who reads it all finds it";
}

TEST(HeadOfSomeKeys, AnotherSavesMetadataIsToldByItsEnds) {
  ManyKeys saved;
  const ManyKeys other;
  for (const std::string& file : {std::string(format::metadata_file), std::string(format::sidecar_file)}) {
    ManyKeys mixed;
    mixed.put(file, other.content(file));
    EXPECT_EQ(mixed.head_of({"layers.7"}).fault.code, Code::corrupt) << file;
  }
  Bytes longer = saved.content(format::metadata_file);
  longer.push_back(std::byte{0});
  saved.put(format::metadata_file, longer);
  EXPECT_EQ(saved.head_of({"layers.7"}).fault.code, Code::corrupt);
}

TEST(HeadOfSomeKeys, EveryChangedByteThatMattersIsTold) {
  ManyKeys saved;
  const Head expected = saved.head_of({"layers.7"}).or_throw();
  const Bytes sidecar = saved.content(format::sidecar_file);
  int told = 0;
  for (size_t at = 0; at < sidecar.size(); at += 7) {
    saved.flip(format::sidecar_file, at);
    const auto found = saved.head_of({"layers.7"});
    saved.flip(format::sidecar_file, at);  // as it was
    if (found) {
      EXPECT_EQ(found.value->manifest, expected.manifest) << "byte " << at;
      EXPECT_EQ(found.value->sidecar->files, expected.sidecar->files) << "byte " << at;
    } else {
      EXPECT_EQ(found.fault.code, Code::corrupt) << "byte " << at;
      ++told;
    }
  }
  EXPECT_GT(told, 100);
}

TEST(HeadOfSomeKeys, WithoutAnIndexTheWholeHeadIsRead) {
  ManyKeys saved;
  const Head whole = decode_head(read_head(saved.storage, "c"));
  saved.put(format::sidecar_file, format::encode_sidecar(*whole.sidecar));
  EXPECT_EQ(saved.head_of({"layers.7"}).or_throw().manifest.entries.at("layers.7"), whole.manifest.entries.at("layers.7"));
  saved.flip(format::metadata_file, saved.content(format::metadata_file).size() / 2);
  EXPECT_EQ(saved.head_of({"layers.7"}).fault.code, Code::corrupt);
}

TEST(HeadOfSomeKeys, WhatIsNotThereIsToldAsForAll) {
  const ManyKeys saved;
  const std::vector<std::string> wanted = {"w"};
  EXPECT_EQ(capture([&] { read_head_of(saved.storage, "other", wanted); }).fault.code, Code::not_found);
  MemoryStorage storage;
  const Path staging = storage.stage("c", "id");
  storage.create(staging + "/" + format::sidecar_file)->write(0, saved.content(format::sidecar_file));
  const Fault fault = capture([&] { read_head_of(storage, staging, wanted); }).fault;
  EXPECT_EQ(fault.code, Code::not_found);
  EXPECT_EQ(fault.what, "no checkpoint");
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
