#include "cli/ls.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "cli/written_checkpoint.h"

namespace tessera::cli {
namespace {

using namespace std::string_literals;

TEST(Ls, TableShowsTensorsObjectsAndTotals) {
  WrittenCheckpoint checkpoint;
  checkpoint.tensor<float>("model.w", DType::float32, {1, 2, 3}, 2).object("step", 7).object("betas", Value::tuple({0.9, 0.999}));
  EXPECT_EQ(ls({.path = checkpoint.write()}).text,
            "key      dtype    shape  chunks  bytes  value\n"
            "betas    object                         (0.9, 0.999)\n"
            "model.w  float32  [3]         2     12\n"
            "step     object                         7\n"
            "1 tensor in 2 chunks: 3 elements, 12 B; 2 objects; written by tessera/0, save a-save\n");
}

TEST(Ls, JsonHasOneLineAKeyAndDigestsOnRequest) {
  WrittenCheckpoint checkpoint;
  checkpoint.tensor<char>("w", DType::int8, {'a', 'b', 'c'}, 2).object("n", Value::None{});
  const std::string path = checkpoint.write();
  EXPECT_EQ(ls({.path = path, .json = true}).text,
            "{\n \"entries\": {\n"
            "  \"n\": {\"kind\": \"object\", \"value\": {\"t\": \"none\"}},\n"
            "  \"w\": {\"kind\": \"tensor\", \"dtype\": \"int8\", \"shape\": [3]}\n"
            " }\n}\n");
  EXPECT_THAT(ls({.path = path, .json = true, .digest = true}).text,
              testing::HasSubstr("\"sha256\": \"ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad\""));
}

TEST(Ls, KeysMayHoldAnyCharacter) {
  WrittenCheckpoint checkpoint;
  checkpoint.object("nul\0key"s, "\xed\xa0\x80").object("line\nbreak \x1b[0m", 1);
  const std::string path = checkpoint.write();
  EXPECT_EQ(ls({.path = path, .json = true}).text,
            "{\n \"entries\": {\n"
            "  \"line\\nbreak \\u001b[0m\": {\"kind\": \"object\", \"value\": {\"t\": \"int\", \"v\": \"1\"}},\n"
            "  \"nul\\u0000key\": {\"kind\": \"object\", \"value\": {\"t\": \"str\", \"v\": \"\\ud800\"}}\n"
            " }\n}\n");
  EXPECT_THAT(ls({.path = path}).text, testing::HasSubstr("line\\nbreak \\x1b[0m"));
  EXPECT_THAT(ls({.path = path}).text, testing::HasSubstr("nul\\x00key"));
}

TEST(Ls, AnEmptyCheckpointIsListed) {
  WrittenCheckpoint checkpoint;
  const std::string path = checkpoint.write();
  EXPECT_EQ(ls({.path = path, .json = true}).text, "{\n \"entries\": {\n }\n}\n");
  EXPECT_THAT(ls({.path = path}).text, testing::HasSubstr("0 tensors in 0 chunks: 0 elements, 0 B; 0 objects"));
}

}  // namespace
}  // namespace tessera::cli
