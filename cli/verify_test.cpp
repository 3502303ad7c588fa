#include "cli/verify.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "cli/written_checkpoint.h"

namespace tessera::cli {
namespace {

using testing::HasSubstr;

TEST(Verify, ACheckpointWithoutASidecarIsVerifiedAsFarAsItsChecksumsReach) {
  WrittenCheckpoint checkpoint;
  checkpoint.tensor<float>("w", DType::float32, {1, 2, 3}, 2).object("n", 5);
  const Output output = verify({.path = checkpoint.write()});
  EXPECT_EQ(output.exit_code, exit_ok);
  EXPECT_THAT(output.text, HasSubstr(": no damage found; dcp, save a-save\n"));
  EXPECT_THAT(output.text, HasSubstr(" unverified, 0 damaged\n"));
}

TEST(Verify, DamageIsATableAndExitCode1) {
  WrittenCheckpoint checkpoint;
  checkpoint.tensor<float>("first", DType::float32, {1, 2, 3}).tensor<float>("second", DType::float32, {4, 5, 6});
  const std::string path = checkpoint.write();
  const std::filesystem::path data = std::filesystem::path(path) / "__0_0.distcp";
  std::filesystem::resize_file(data, std::filesystem::file_size(data) - 1);
  const Output output = verify({.path = path, .quick = true});
  EXPECT_EQ(output.exit_code, exit_differs);
  EXPECT_THAT(output.text, HasSubstr(path + "/__0_0.distcp"));
  EXPECT_THAT(output.text, HasSubstr("file ends early"));
  EXPECT_THAT(output.text, HasSubstr("first, second"));
  EXPECT_THAT(output.text, HasSubstr("damaged in 1 place"));
  EXPECT_THAT(verify({.path = path, .quick = true, .json = true}).text, HasSubstr("{\"sound\": false, \"format\": \"dcp\""));
}

}  // namespace
}  // namespace tessera::cli
