// Any format into any other: what is read afterwards is what was there before, what cannot be held is refused by name, and what is
// asked for in part comes in part.
#include "tessera/exchange/convert.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "tests/support/temporary_directory.h"

namespace tessera {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

const std::string golden = TESSERA_GOLDEN;

// safetensors with a header as a test wants it.
void write_raw(const std::string& path, const std::string& header, size_t data_bytes) {
  std::ofstream file(path, std::ios::binary);
  const uint64_t length = header.size();
  file.write(reinterpret_cast<const char*>(&length), sizeof length);
  file << header << std::string(data_bytes, '\x01');
}

Fault fault_of_opening(const std::string& path) {
  const auto outcome = capture([&] { Checkpoint::open(path); });
  EXPECT_FALSE(outcome);
  return outcome.fault;
}

// What `load` has of two checkpoints is the same, bit for bit.
void expect_equal(const Checkpoint& a, const Checkpoint& b) {
  ASSERT_EQ(a.keys(), b.keys());
  const StateDict in_a = a.load();
  const StateDict in_b = b.load();
  for (const auto& [key, leaf] : in_a.leaves) {
    const auto* tensor = std::get_if<TensorLeaf>(&leaf.is);
    const auto& other = in_b.leaves.at(key).is;
    ASSERT_EQ(leaf.is.index(), other.index()) << key;
    if (!tensor) {
      EXPECT_EQ(std::get<Value>(leaf.is), std::get<Value>(other)) << key;
      continue;
    }
    const View& view_a = tensor->shards.at(0).view;
    const View& view_b = std::get<TensorLeaf>(other).shards.at(0).view;
    ASSERT_EQ(view_a.dtype, view_b.dtype) << key;
    ASSERT_EQ(view_a.sizes, view_b.sizes) << key;
    EXPECT_TRUE(bytes_of(view_a) == 0 || std::memcmp(view_a.data, view_b.data, static_cast<size_t>(bytes_of(view_a))) == 0) << key;
  }
}

TEST(Convert, TheTargetsNameSaysItsFormat) {
  EXPECT_EQ(format_named("a/model.safetensors"), Format::safetensors);
  EXPECT_EQ(format_named("model.pt"), Format::torch_save);
  EXPECT_EQ(format_named("step-00000012"), Format::dcp);
}

TEST(Convert, EveryFormatHoldsTheTensorsOfEveryOther) {
  const TemporaryDirectory scratch;
  const auto source = Checkpoint::open(golden + "/torch-2.13/fsdp2_uneven/ckpt");
  const std::vector<std::string> names = {"a", "b.safetensors", "c.pt"};
  for (const std::string& first : names) {
    convert(source, scratch / first, {.ranks = 3});
    const auto middle = Checkpoint::open(scratch / first);
    expect_equal(source, middle);
    for (const std::string& second : names) {
      convert(middle, scratch / (first + "-" + second), {.ranks = 2});
      expect_equal(source, Checkpoint::open(scratch / (first + "-" + second)));
    }
  }
  for (const auto& entry : std::filesystem::directory_iterator(scratch.path())) {
    EXPECT_FALSE(entry.path().filename().string().starts_with(".tessera-")) << "nothing is left of the work";
  }
}

TEST(Convert, PartsUnderOtherNamesInOtherDtypes) {
  const TemporaryDirectory scratch;
  write_raw(
      scratch / "m.safetensors",
      R"({"model.a.w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"model.b.w":{"dtype":"I32","shape":[1],"data_offsets":[8,12]},)"
      R"("optim.a":{"dtype":"F32","shape":[1],"data_offsets":[12,16]}})",
      16);
  const auto source = Checkpoint::open(scratch / "m.safetensors").renamed({{"^model\\.", ""}, {"(.*)\\.w$", "$1.weight"}});
  EXPECT_THAT(source.keys(), ElementsAre("a.weight", "b.weight", "optim.a"));
  convert(source, scratch / "part", {.filter = {.exclude = {"optim.*"}}, .casts = {{"*", DType::bfloat16}}});
  const auto part = Checkpoint::open(scratch / "part");
  EXPECT_THAT(part.keys(), ElementsAre("a.weight", "b.weight"));
  EXPECT_EQ(part.tensor("a.weight").dtype, DType::bfloat16);
  EXPECT_EQ(part.tensor("b.weight").dtype, DType::int32) << "only floating-point tensors are converted";
  const auto both = capture([&] { source.renamed({{".*", "same"}}); });
  EXPECT_EQ(both.fault.code, Code::invalid_argument);
  EXPECT_EQ(capture([&] { source.renamed({{"(", ""}}); }).fault.code, Code::invalid_argument);
  EXPECT_EQ(capture([&] { convert(source, scratch / "none", {.filter = {.keys = {"no.*"}}}); }).fault.code, Code::not_found);
}

TEST(Convert, WhatATargetCannotHoldIsRefusedByName) {
  const TemporaryDirectory scratch;
  const auto objects = Checkpoint::open(golden + "/torch-2.13/nested_objects/ckpt");
  const auto to_safetensors = capture([&] { convert(objects, scratch / "a.safetensors"); });
  EXPECT_EQ(to_safetensors.fault.code, Code::unsupported);
  EXPECT_THAT(to_safetensors.fault.hint, HasSubstr("--tensors-only"));
  convert(objects, scratch / "a.safetensors", {.tensors_only = true});
  EXPECT_THAT(Checkpoint::open(scratch / "a.safetensors").objects(), IsEmpty());
  const auto taken = capture([&] { convert(objects, scratch / "a.safetensors", {.tensors_only = true}); });
  EXPECT_EQ(taken.fault.code, Code::exists);
  convert(objects, scratch / "a.safetensors", {.filter = {.keys = {"*"}}, .tensors_only = true, .replace = Replace::exchange});
  const auto to_torch = capture([&] { convert(objects, scratch / "a.pt"); });
  EXPECT_EQ(to_torch.fault.code, Code::unsupported);
  EXPECT_FALSE(std::filesystem::exists(scratch / "a.pt"));
  const auto dtypes = Checkpoint::open(golden + "/torch-2.13/dtypes/ckpt");
  EXPECT_THAT(capture([&] { convert(dtypes, scratch / "d.safetensors"); }).fault.what, HasSubstr("complex"));
}

TEST(Convert, AModelLargerThanTheMemoryGoesThroughInPieces) {
  const TemporaryDirectory scratch;
  constexpr int64_t rows = 3000, columns = 1000;
  const int64_t bytes = rows * columns * 4;
  write_raw(scratch / "m.safetensors",
            R"({"w":{"dtype":"F32","shape":[)" + std::to_string(rows) + "," + std::to_string(columns) + R"(],"data_offsets":[0,)" +
                std::to_string(bytes) + "]}}",
            static_cast<size_t>(bytes));
  const auto source = Checkpoint::open(scratch / "m.safetensors");
  int64_t told = 0;
  int calls = 0;
  const auto progress = [&](int64_t done, int64_t total) {
    EXPECT_EQ(total, bytes);
    told = done;
    ++calls;
  };
  convert(source, scratch / "d", {.ranks = 7, .memory_bytes = 1 << 20, .progress = progress});
  EXPECT_EQ(told, bytes);
  EXPECT_GT(calls, 40);
  expect_equal(source, Checkpoint::open(scratch / "d"));
  const ConvertReport report = convert(Checkpoint::open(scratch / "d"), scratch / "m.pt", {.memory_bytes = 1 << 20});
  EXPECT_EQ(report.unverified_bytes, 0) << "the CRC of every item was checked, although it came in pieces";
  expect_equal(source, Checkpoint::open(scratch / "m.pt"));
}

TEST(Safetensors, WhatBreaksItsRulesIsRefused) {
  const TemporaryDirectory scratch;
  const std::string path = scratch / "bad.safetensors";
  const auto refused = [&](const std::string& header, size_t data_bytes, Code code, const char* why) {
    write_raw(path, header, data_bytes);
    const Fault fault = fault_of_opening(path);
    EXPECT_EQ(fault.code, code) << header;
    EXPECT_THAT(fault.what, HasSubstr(why)) << header;
    EXPECT_EQ(fault.file, "bad.safetensors");
  };
  const auto w = [](const std::string& rest) { return R"({"w":{"dtype":"F32","shape":[2],)" + rest + "}"; };
  refused(w(R"("data_offsets":[0,8]})"), 9, Code::corrupt, "bytes after the last tensor");
  refused(w(R"("data_offsets":[0,8]})"), 7, Code::corrupt, "past the file's end");
  refused(w(R"("data_offsets":[1,9]})"), 9, Code::corrupt, "a hole or an overlap");
  refused(w(R"("data_offsets":[0,4]})"), 4, Code::corrupt, "has 4 bytes, its shape 8");
  refused(w(R"("data_offsets":[8,0]})"), 8, Code::corrupt, "a range");
  refused(w(R"("data_offsets":[0,8.0]})"), 8, Code::corrupt, "no size");
  refused(w(R"("data_offsets":[0,-8]})"), 8, Code::corrupt, "no size");
  refused(w(R"("data_offsets":[0,8],"x":1})"), 8, Code::corrupt, "not described");
  refused(R"({"w":{"dtype":"F99","shape":[2],"data_offsets":[0,8]}})", 8, Code::unsupported, "F99");
  refused(R"({"w":{"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,8]}})", 8, Code::corrupt, "overflows");
  refused(R"({"w":{"dtype":"F32","shape":[],"data_offsets":[0,4]},"w":{"dtype":"F32","shape":[],"data_offsets":[4,8]}})", 8, Code::corrupt,
          "twice");
  refused(R"({"__metadata__":{"a":1}})", 0, Code::corrupt, "not all strings");
  refused(R"({"w":)", 0, Code::corrupt, "not JSON");
  refused(" {}", 0, Code::unsupported, "neither safetensors nor torch.save");
  refused("{" + std::string(20, '[') + std::string(20, ']') + "}", 0, Code::corrupt, "not JSON");
}

TEST(Safetensors, FilesOfOneModelMustAgree) {
  const TemporaryDirectory scratch;
  const auto tensor = [](const char* key) { return std::string("{\"") + key + R"(":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})"; };
  write_raw(scratch / "a.safetensors", tensor("w"), 1);
  write_raw(scratch / "b.safetensors", tensor("w"), 1);
  EXPECT_THAT(fault_of_opening(scratch.path()).what, HasSubstr("is in two files"));
  std::ofstream(scratch / "model.safetensors.index.json") << R"({"weight_map":{"w":"a.safetensors"}})";
  EXPECT_THAT(Checkpoint::open(scratch.path()).keys(), ElementsAre("w")) << "the index says which files count";
  std::ofstream(scratch / "model.safetensors.index.json") << R"({"weight_map":{"v":"a.safetensors"}})";
  EXPECT_THAT(fault_of_opening(scratch.path()).what, HasSubstr("lacks it"));
  std::ofstream(scratch / "model.safetensors.index.json") << R"({"weight_map":{"w":"../a.safetensors"}})";
  EXPECT_EQ(fault_of_opening(scratch.path()).code, Code::corrupt);
  EXPECT_THAT(Checkpoint::open(scratch / "b.safetensors").keys(), ElementsAre("w")) << "a file alone is not held against an index";
}

TEST(Hostile, EachCaseIsRefusedForItsOwnCause) {
  const auto causes = nlohmann::json::parse(std::ifstream(golden + "/../causes.json"));
  EXPECT_GT(causes.size(), 40u);
  for (const auto& [name, cause] : causes.items()) {
    SCOPED_TRACE(name);
    const auto outcome = capture([&, &which = name] { Checkpoint::open(golden + "/hostile/" + which).load(); });
    ASSERT_FALSE(outcome);
    EXPECT_EQ(tessera::name(outcome.fault.code), cause["code"].get<std::string>());
    EXPECT_THAT(outcome.fault.what, HasSubstr(cause["what"].get<std::string>()));
    EXPECT_TRUE(outcome.fault.file.ends_with(cause["file"].get<std::string>())) << outcome.fault.file;
  }
}

TEST(TorchFile, WhatIsDamagedIsRefusedAtEveryByte) {
  const TemporaryDirectory scratch;
  const std::string fixture = golden + "/torch-2.13/torch_save_single_file/ckpt/";
  for (const char* name : {"model.pt", "legacy.pt"}) {
    std::ifstream in(fixture + name, std::ios::binary);
    const std::string whole_file{std::istreambuf_iterator<char>(in), {}};
    ASSERT_FALSE(whole_file.empty());
    for (size_t cut = 0; cut < whole_file.size(); cut += 7) {
      std::ofstream(scratch / "cut.pt", std::ios::binary) << whole_file.substr(0, cut);
      EXPECT_FALSE(capture([&] { Checkpoint::open(scratch / "cut.pt"); })) << name << " cut at " << cut;
    }
    for (size_t at = 0; at < whole_file.size(); at += 3) {
      std::string flipped = whole_file;
      flipped[at] = static_cast<char>(flipped[at] ^ 0x15);
      std::ofstream(scratch / "flipped.pt", std::ios::binary) << flipped;
      // Refused, or read without harm: the sanitizers watch.
      capture([&] { Checkpoint::open(scratch / "flipped.pt").load(); });
    }
  }
}

TEST(TorchFile, OneUnknownValueDoesNotHideTheRest) {
  const auto file = Checkpoint::open(golden + "/torch-2.13/torch_save_single_file/ckpt/model.pt");
  EXPECT_EQ(file.format(), Format::torch_save);
  EXPECT_EQ(file.object("epoch"), Value(3));
  EXPECT_EQ(capture([&] { file.object("view"); }).fault.code, Code::not_found);
}

}  // namespace
}  // namespace tessera
