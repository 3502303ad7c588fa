// What can change between two system calls: each must be safe by itself, without what was looked up before.
#include "tessera/storage/local_directory.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "tests/support/temporary_directory.h"

namespace tessera {
namespace {

namespace fs = std::filesystem;

void put(const std::string& file, std::string_view text) { std::ofstream(file, std::ios::binary) << text; }
std::string text_of(const std::string& file) {
  std::ifstream in(file, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

TEST(MoveToFreeName, ANameThatWasTakenMeanwhileIsLeftAlone) {
  TemporaryDirectory directory;
  fs::create_directories(directory / "from/d");
  fs::create_directories(directory / "to/d");
  put(directory / "from/f", "mine");
  put(directory / "to/f", "theirs");
  const Descriptor from = open_directory({posix(), directory.path()}, "from");
  const Descriptor to = open_directory({posix(), directory.path()}, "to");
  for (const char* name : {"f", "d"}) {
    const auto outcome = capture([&] { move_to_free_name(from, to, name, name); });
    ASSERT_FALSE(outcome) << name;
    EXPECT_EQ(outcome.fault.code, Code::exists) << name;
  }
  EXPECT_EQ(text_of(directory / "from/f"), "mine");
  EXPECT_EQ(text_of(directory / "to/f"), "theirs");
}

TEST(DeleteDirectory, ALinkThatTookItsPlaceMeanwhileIsNotFollowed) {
  TemporaryDirectory directory;
  fs::create_directory(directory / "outside");
  put(directory / "outside/f", "kept");
  fs::create_directory_symlink(directory / "outside", directory / "link");
  EXPECT_THROW(delete_directory(open_directory({posix(), directory.path()}, ""), "link", "link"), Error);
  EXPECT_EQ(text_of(directory / "outside/f"), "kept");
}

TEST(DeleteDirectory, OneThatIsGoneAlreadyIsNoError) {
  TemporaryDirectory directory;
  delete_directory(open_directory({posix(), directory.path()}, ""), "gone", "gone");
}

TEST(EntriesOf, ADescriptorIsListedFromTheBeginningEachTime) {
  TemporaryDirectory directory;
  put(directory / "f", "x");
  const Descriptor opened = open_directory({posix(), directory.path()}, "");
  EXPECT_EQ(entries_of(opened, "").size(), 1u);
  EXPECT_EQ(entries_of(opened, "").size(), 1u);
}

}  // namespace
}  // namespace tessera
