#include "tessera/format/sidecar_index.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include "tessera/format/sidecar.h"

namespace tessera::format {
namespace {

const std::vector<std::string> files = {"a", "b", "c/d"};

Extent extent(int64_t number) {
  Extent at{files[static_cast<size_t>(number) % files.size()], number * 77, number, {}};
  if (number % 5 == 0) at.transforms = {"stream.zstd/1"};
  return at;
}

// Keys of every kind and length, tensors of none to three dimensions.
Manifest any_manifest() {
  Manifest manifest;
  const auto keys = *rc::gen::container<std::vector<std::string>>(rc::gen::string<std::string>());
  for (const std::string& key : keys) {
    Entry entry{{"x", int64_t{5}, key}, ObjectEntry{extent(static_cast<int64_t>(key.size()))}};
    if (*rc::gen::inRange(0, 4) > 0) {
      const auto dims = *rc::gen::inRange<size_t>(0, 4);
      TensorEntry tensor{static_cast<DType>(*rc::gen::inRange(0, static_cast<int>(DType::float4_e2m1fn_x2) + 1)), Sizes(dims, 1), {}};
      for (auto chunks = *rc::gen::inRange<int64_t>(0, 5); chunks > 0; --chunks) {
        Chunk chunk{{Sizes(dims, int64_t{1} << (7 * chunks)), Sizes(dims, (int64_t{1} << (9 * chunks)) - 1)}, extent(chunks)};
        tensor.chunks.push_back(chunk);
      }
      entry.is = tensor;
    }
    manifest.entries[key] = entry;
  }
  return manifest;
}

RC_GTEST_PROP(SidecarIndex, FindsEveryKeyAndNoOther, ()) {
  const Manifest manifest = any_manifest();
  const Bytes bytes = encode_index(manifest, files);
  const MemorySource index(bytes);
  for (const auto& [key, entry] : manifest.entries) {
    RC_ASSERT(find_in_index(index, key, files) == entry);
    for (const std::string& other : {key + "x", key.substr(0, key.size() / 2), key + std::string(1, '\0')})
      RC_ASSERT(find_in_index(index, other, files).has_value() == manifest.entries.contains(other));
  }
  RC_ASSERT(!find_in_index(index, *rc::gen::string<std::string>(), files) || !manifest.entries.empty());
}

Manifest example() {
  Manifest manifest;
  manifest.entries["o"] = {{"o"}, ObjectEntry{{"b", 300, 128, {"stream.zstd/1"}}}};
  manifest.entries["w"] = {
      {"w", int64_t{2}},
      TensorEntry{DType::float32, {4, 3}, {{{{0, 0}, {2, 3}}, {"a", 0, 1500, {}}}, {{{2, 0}, {2, 3}}, {"c/d", 1500, 1500, {}}}}}};
  return manifest;
}

TEST(SidecarIndex, IsWrittenByteForByteAsDescribed) {
  using namespace std::string_literals;
  const std::string records =
      "\x01o\x01\x00\x01o\x00"              // key, path of one name, an object
      "\x01\xac\x02\x80\x01\x01\x0dstream.zstd/1"  // file 1, 300, 128, a transform
      "\x01w\x02\x00\x01w\x01\x02\x01"      // key, path of a name and an index, a tensor
      "\x07"
      "float32"
      "\x02\x04\x03\x02"   // dtype, sizes, two chunks
      "\x00\x00\x02\x03\x00\x00\xdc\x0b\x00"
      "\x02\x00\x02\x03\x02\xdc\x0b\xdc\x0b\x00"s;
  ByteWriter expected;
  expected.put<int64_t>(2);
  expected.put<int64_t>(0);
  expected.put<int64_t>(27);
  expected.put<int64_t>(static_cast<int64_t>(records.size()));
  expected.put_raw(as_bytes(records));
  EXPECT_EQ(encode_index(example(), files), expected.take());
}

TEST(SidecarIndex, EveryChangedByteAndEveryLengthIsReadOrRefusedAndNothingElse) {
  const Bytes good = encode_index(example(), files);
  int refused = 0;
  const auto look = [&](const Bytes& bytes) {
    const MemorySource index(bytes);
    for (const char* key : {"o", "w", "x", ""}) {
      const auto found = capture([&] { return find_in_index(index, key, files); });
      if (found) continue;
      EXPECT_EQ(found.fault.code, Code::corrupt);
      ++refused;
    }
  };
  for (size_t at = 0; at < good.size(); ++at) {
    for (int value = 0; value < 256; ++value) {
      Bytes bad = good;
      bad[at] = static_cast<std::byte>(value);
      look(bad);
    }
  }
  for (size_t length = 0; length < good.size(); ++length) look(Bytes(good.begin(), good.begin() + static_cast<std::ptrdiff_t>(length)));
  EXPECT_GT(refused, 5000);
}

// A record of a few bytes a chunk that names a long file each time.
TEST(SidecarIndex, AShortRecordDoesNotStandForMuch) {
  const std::vector<std::string> long_names = {std::string(100'000, 'f')};
  Manifest manifest;
  TensorEntry tensor{DType::float32, {}, {}};
  for (int i = 0; i < 5; ++i) tensor.chunks.push_back({{{}, {}}, {long_names[0], 0, 1, {}}});
  manifest.entries["w"] = {{"w"}, tensor};
  const Bytes few = encode_index(manifest, long_names);
  EXPECT_EQ(find_in_index(MemorySource(few), "w", long_names), manifest.entries.at("w"));
  tensor.chunks.resize(1000, tensor.chunks[0]);
  manifest.entries["w"].is = tensor;
  const Bytes many = encode_index(manifest, long_names);
  EXPECT_EQ(capture([&] { find_in_index(MemorySource(many), "w", long_names); }).fault.code, Code::corrupt);
}

TEST(SidecarIndex, RefusesToWriteWhatItCouldNotRead) {
  Manifest manifest = example();
  std::get<ObjectEntry>(manifest.entries.at("o").is).at.file = "other";
  EXPECT_EQ(capture([&] { encode_index(manifest, files); }).fault.code, Code::invalid_argument);
  manifest = example();
  std::get<ObjectEntry>(manifest.entries.at("o").is).at.offset_bytes = -1;
  EXPECT_EQ(capture([&] { encode_index(manifest, files); }).fault.code, Code::invalid_argument);
}

}  // namespace
}  // namespace tessera::format
