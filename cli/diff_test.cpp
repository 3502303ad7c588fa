#include "cli/diff.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

#include "cli/written_checkpoint.h"

namespace tessera::cli {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::StartsWith;

std::vector<Difference> differences_of(WrittenCheckpoint& a, WrittenCheckpoint& b) {
  return differences(open_checkpoint(a.write()), open_checkpoint(b.write()));
}

TEST(Diff, ChunksDoNotCount) {
  WrittenCheckpoint a, b;
  a.tensor<float>("w", DType::float32, {1, 2, 3, 4, 5}, 2).object("n", 5);
  b.tensor<float>("w", DType::float32, {1, 2, 3, 4, 5}, 3).object("n", 5);
  EXPECT_THAT(differences_of(a, b), IsEmpty());
  EXPECT_EQ(diff(a.write(), b.write()).exit_code, exit_ok);
}

TEST(Diff, NamesTheFirstElementAndCountsAll) {
  WrittenCheckpoint a, b;
  a.tensor<int16_t>("w", DType::int16, {1, 2, 3, 4});
  b.tensor<int16_t>("w", DType::int16, {1, 2, 0x103, 7});
  EXPECT_THAT(differences_of(a, b), ElementsAre(Difference{"w", "bytes (2 of 4 elements)", "[2] = 0x0300", "[2] = 0x0301"}));
  const Output output = diff(a.write(), b.write());
  EXPECT_EQ(output.exit_code, exit_differs);
  EXPECT_THAT(output.text, HasSubstr("1 key differs; A is "));
}

TEST(Diff, ComparesBitsAndNotNumbers) {
  constexpr float nan = std::numeric_limits<float>::quiet_NaN();
  WrittenCheckpoint a, b, c;
  a.tensor<float>("w", DType::float32, {nan, 0.0F}).object("x", 0.0);
  b.tensor<float>("w", DType::float32, {nan, 0.0F}).object("x", 0.0);
  c.tensor<float>("w", DType::float32, {nan, -0.0F}).object("x", -0.0);
  EXPECT_THAT(differences_of(a, b), IsEmpty());
  EXPECT_THAT(differences_of(a, c), ElementsAre(Difference{"w", "bytes (1 of 2 elements)", "[1] = 0x00000000", "[1] = 0x00000080"},
                                                Difference{"x", "value", "0.0", "-0.0"}));
}

TEST(Diff, FindsTheElementInPiecesPastTheFirst) {
  std::vector<uint8_t> bytes(static_cast<size_t>(piece_bytes) + 3, 7);
  WrittenCheckpoint a, b;
  a.tensor("w", DType::uint8, bytes, bytes.size());
  bytes.back() = 8;
  b.tensor("w", DType::uint8, bytes, bytes.size() / 2);
  const std::string index = "[" + std::to_string(bytes.size() - 1) + "] = 0x";
  EXPECT_THAT(differences_of(a, b),
              ElementsAre(Difference{"w", "bytes (1 of " + std::to_string(bytes.size()) + " elements)", index + "07", index + "08"}));
}

TEST(Diff, DtypeShapeKindAndPresenceAreDifferences) {
  WrittenCheckpoint a, b;
  a.tensor<int32_t>("dtype", DType::int32, {1}).tensor<int32_t>("shape", DType::int32, {1}).object("kind", "text").object("gone", 1);
  b.tensor<float>("dtype", DType::float32, {1}).tensor<int32_t>("shape", DType::int32, {1, 1}).tensor<int32_t>("kind", DType::int32, {1});
  b.object("new", Value::None{});
  EXPECT_THAT(differences_of(a, b), ElementsAre(Difference{"dtype", "dtype", "int32", "float32"}, Difference{"gone", "only in A", "1", ""},
                                                Difference{"kind", "kind", "'text'", "int32 [1]"},
                                                Difference{"new", "only in B", "", "None"}, Difference{"shape", "shape", "[1]", "[2]"}));
}

TEST(Diff, AnErrorNamesTheSideItIsAbout) {
  WrittenCheckpoint a, b;
  a.tensor<float>("w", DType::float32, {1});
  b.tensor<float>("w", DType::float32, {1});
  const std::string path_a = a.write();
  const std::string path_b = b.write();
  std::filesystem::remove(path_b + "/__0_0.distcp");
  try {
    diff(path_a, path_b);
    FAIL() << "no error";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Code::not_found);
    EXPECT_THAT(error.what(), StartsWith(path_b + "/__0_0.distcp"));
  }
}

}  // namespace
}  // namespace tessera::cli
