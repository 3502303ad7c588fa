#include "tessera/format/dcp.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <filesystem>
#include <fstream>

#include "tessera/format/nested.h"

namespace tessera::format {
namespace {

using ::testing::HasSubstr;

Manifest sample() {
  Manifest manifest;
  manifest.writer_version = 0;
  manifest.save_id = "0123456789abcdef0123456789abcdef";
  manifest.entries["w"] = {
      {"w"},
      TensorEntry{DType::bfloat16,
                  {4, 3},
                  {{{{0, 0}, {2, 3}}, {"__0_0.distcp", 0, 1000}}, {{{2, 0}, {2, 3}}, {"__1_0.distcp", int64_t{1} << 40, 1000}}}}};
  manifest.entries["optim.groups.0.lr"] = {{"optim", "groups", int64_t{0}, "lr"}, ObjectEntry{{"__0_0.distcp", 1000, 500}}};
  manifest.entries["scalar"] = {{"scalar"}, TensorEntry{DType::float32, {}, {{{{}, {}}, {"__0_0.distcp", 1500, 900}}}}};
  manifest.entries["empty"] = {{"empty"}, TensorEntry{DType::int64, {0, 4}, {{{{0, 0}, {0, 4}}, {"__0_0.distcp", 2400, 800}}}}};
  return manifest;
}

TEST(Dcp, WhatIsEncodedIsDecoded) {
  EXPECT_EQ(decode_metadata(encode_metadata(sample())), sample());
  EXPECT_EQ(decode_metadata(encode_metadata(Manifest{})), Manifest{});
}

TEST(Dcp, TheNameTagSaysWhoWroteItAndANewerWriterIsRefused) {
  Manifest manifest = sample();
  manifest.writer_version = 2;
  const auto outcome = capture([&] { return decode_metadata(encode_metadata(manifest)); });
  EXPECT_EQ(outcome.fault.code, Code::unsupported);
  EXPECT_THAT(outcome.fault.what, HasSubstr("newer"));
  manifest.writer_version = -1;
  manifest.save_id.clear();
  EXPECT_EQ(decode_metadata(encode_metadata(manifest)).writer_version, -1);
}

TEST(Dcp, DamageOfAnyByteIsRefusedOrGivesASoundManifest) {
  const Bytes bytes = encode_metadata(sample());
  for (size_t at = 0; at < bytes.size(); ++at) {
    Bytes damaged = bytes;
    damaged[at] ^= std::byte{0x11};
    const auto outcome = capture([&] { return decode_metadata(damaged); });
    if (outcome) EXPECT_NO_THROW(validate(*outcome.value)) << at;
    else EXPECT_NE(outcome.fault.code, Code::internal) << at << ": " << outcome.fault.what;
  }
}

TEST(Dcp, EveryMetadataOfStockInTheFixturesIsDecodedAndSurvivesOurOwnForm) {
  int decoded = 0;
  for (const auto& fixture : std::filesystem::recursive_directory_iterator(TESSERA_GOLDEN "/torch-2.13")) {
    if (fixture.path().filename() != metadata_file) continue;
    std::ifstream in(fixture.path(), std::ios::binary);
    const std::string bytes((std::istreambuf_iterator<char>(in)), {});
    const Manifest manifest = decode_metadata(as_bytes(bytes));
    EXPECT_EQ(manifest.writer_version, -1);
    EXPECT_EQ(decode_metadata(encode_metadata(manifest)), manifest) << fixture.path();
    ++decoded;
  }
  EXPECT_GE(decoded, 18);
}

TEST(Nested, FlattensAsStockDoes) {
  const Value lr = Value::Mapping{{{Value("lr"), Value(0.5)}, {Value(3), Value("x")}, {Value("empty"), Value::Mapping{}}}, false};
  const Value nested = Value::Mapping{{{Value("groups"), Value::list({lr, Value(7)})},
                                       {Value("plain"), Value::list({Value(1), Value(2)})},
                                       {Value("pair"), Value::tuple({lr})}},
                                      false};
  const auto leaves = flatten(nested);
  std::vector<std::string> keys;
  for (const auto& [path, value] : leaves) keys.push_back(join(path));
  EXPECT_THAT(keys, ::testing::ElementsAre("groups.0.lr", "groups.0.3", "groups.1", "plain", "pair"));
  const Value back = unflatten(leaves);
  EXPECT_EQ(std::get<Value::Mapping>(back.is).items.size(), 3u);
  EXPECT_EQ(flatten(back).size(), leaves.size());
}

TEST(Nested, RefusesPathsThatAreNotOfOneNesting) {
  const auto refused = [](const std::vector<std::pair<std::string, KeyPath>>& paths) {
    std::map<std::string, const KeyPath*> all;
    for (const auto& [key, path] : paths) all.emplace(key, &path);
    return !capture([&] { check_paths(all, Code::corrupt); });
  };
  EXPECT_FALSE(refused({{"a", {"a"}}, {"b.0", {"b", int64_t{0}}}, {"b.1", {"b", int64_t{1}}}}));
  EXPECT_TRUE(refused({{"a", {}}}));
  EXPECT_TRUE(refused({{"a", {"a"}}, {"a.b", {"a", "b"}}}));
  EXPECT_TRUE(refused({{"a.b", {"a", "b"}}, {"z", {"a"}}}));
  EXPECT_TRUE(refused({{"a.0", {"a", int64_t{0}}}, {"a.b", {"a", "b"}}}));
  EXPECT_TRUE(refused({{"a", {"x"}}, {"b", {"x"}}}));
  EXPECT_TRUE(refused({{"a", {"a", int64_t{1000000}}}}));
  EXPECT_TRUE(refused({{"a", {"a", int64_t{-1}}}}));
}

}  // namespace
}  // namespace tessera::format
