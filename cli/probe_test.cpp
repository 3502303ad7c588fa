#include "cli/probe.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "tessera/base/error.h"
#include "tests/support/temporary_directory.h"

namespace tessera::cli {
namespace {

using testing::HasSubstr;

TEST(Probe, MeasuresKeepsAndExplains) {
  const TemporaryDirectory scratch;
  ::setenv("XDG_CACHE_HOME", (scratch / "cache").c_str(), 1);
  const std::string data = scratch / "data";
  EXPECT_EQ(capture([&] { probe({.directory = data}); }).fault.code, Code::not_found);
  std::filesystem::create_directories(data);
  EXPECT_THAT(probe({.directory = data, .explain = true}).text, HasSubstr("not probed"));
  const auto found = nlohmann::json::parse(probe({.directory = data, .json = true}).text);
  EXPECT_EQ(found.at("trials").size(), 6U);
  const auto kept = nlohmann::json::parse(probe({.directory = data, .explain = true, .json = true}).text);
  EXPECT_EQ(kept.at("choice"), found.at("choice"));
  EXPECT_THAT(probe({.directory = data, .explain = true}).text, HasSubstr("probed: "));
  ::unsetenv("XDG_CACHE_HOME");
}

}  // namespace
}  // namespace tessera::cli
