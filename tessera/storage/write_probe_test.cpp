#include "tessera/storage/write_probe.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <thread>

#include "tessera/storage/local_storage.h"
#include "tests/support/temporary_directory.h"

namespace tessera {
namespace {

class WriteProbeTest : public testing::Test {
 protected:
  void SetUp() override { ::setenv("XDG_CACHE_HOME", (scratch_ / "cache").c_str(), 1); }
  void TearDown() override { ::unsetenv("XDG_CACHE_HOME"); }
  std::string data() const {
    const std::string path = scratch_ / "data";
    std::filesystem::create_directories(path);
    return path;
  }
  std::optional<WriteChoice> known() const {
    const int directory = ::open(data().c_str(), O_RDONLY | O_DIRECTORY);
    auto choice = known_choice(directory);
    ::close(directory);
    return choice;
  }
  const TemporaryDirectory scratch_;
};

TEST_F(WriteProbeTest, TriesEveryWayChoosesOneOfThemAndLeavesNothingBehind) {
  const WriteProbe probe = probe_writes(data(), {.bytes = 4 << 20, .rounds = 1});
  EXPECT_EQ(probe.trials.size(), 6U);
  for (const WriteTrial& trial : probe.trials) {
    if (trial.mode == WriteMode::buffered) {
      EXPECT_GT(trial.bytes_per_second, 0);
    }
    EXPECT_LE(trial.bytes_per_second, probe.choice.bytes_per_second);
  }
  EXPECT_NE(probe.choice.mode, WriteMode::automatic);
  EXPECT_GE(probe.choice.threads, 1);
  EXPECT_TRUE(std::filesystem::is_empty(data()));
}

TEST_F(WriteProbeTest, WhatIsKeptIsKnownToEveryStorageOfThatFileSystem) {
  EXPECT_FALSE(known());
  EXPECT_EQ(LocalStorage(data()).write_choice("").threads, 0);
  keep_choice(data(), {.mode = WriteMode::direct, .threads = 3, .bytes_per_second = 5e9, .why = "a test"});
  const auto choice = known();
  ASSERT_TRUE(choice);
  EXPECT_EQ(choice->mode, WriteMode::direct);
  EXPECT_EQ(choice->threads, 3);
  EXPECT_EQ(LocalStorage(data()).write_choice("").why, "a test");
  keep_choice(data(), {.mode = WriteMode::buffered, .threads = 1, .bytes_per_second = 1, .why = "another"});
  EXPECT_EQ(known()->why, "another");
}

TEST_F(WriteProbeTest, ADamagedCacheIsNone) {
  keep_choice(data(), {.mode = WriteMode::direct, .threads = 3});
  for (const std::string text : {"", "{", "[]", R"({"version": 2, "file_systems": {}})", R"({"version": 1, "file_systems": 3})"}) {
    std::ofstream(choices_file()) << text;
    EXPECT_FALSE(known()) << text;
  }
}

TEST(DirectWrites, MakeTheSameFileFromAnyMemoryAndAnyLength) {
  const TemporaryDirectory scratch;
  LocalStorage storage(scratch / "root");
  const Path staging = storage.stage("target", "id");
  for (const size_t length : {size_t{0}, size_t{1}, size_t{4096}, size_t{5} << 20, (size_t{3} << 20) + 4097}) {
    std::vector<std::byte> bytes(length + 64);
    for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<std::byte>(i * 2654435761U >> 11);
    const auto content = std::span<const std::byte>(bytes).subspan(3, length);  // begins with no page
    const Path file = staging + "/f" + std::to_string(length);
    const auto writer = storage.create(file);
    writer->prepare(static_cast<int64_t>(length), WriteMode::direct);  // where it cannot be, the file is the same
    constexpr size_t block = size_t{1} << 20;
    std::vector<std::jthread> threads;
    for (size_t at = 0; at < length; at += block) {
      threads.emplace_back([&, at] { writer->write(static_cast<int64_t>(at), content.subspan(at, std::min(block, length - at))); });
    }
    threads.clear();
    EXPECT_EQ(writer->close(), static_cast<int64_t>(length));
    std::vector<std::byte> back(length);
    storage.open(file)->read(0, back);
    EXPECT_TRUE(std::ranges::equal(back, content)) << length;
  }
}

}  // namespace
}  // namespace tessera
