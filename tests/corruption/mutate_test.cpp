#include "tests/support/mutate.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

namespace tessera {
namespace {

std::shared_ptr<const Bytes> bytes_of(std::string_view text) {
  return std::make_shared<const Bytes>(as_bytes(text).begin(), as_bytes(text).end());
}

TEST(Mutations, AreEachOneChangeAndAllDifferent) {
  const std::string long_text = std::string(512, 'a') + std::string(512, 'b') + std::string(600, 'c');
  const Files files = {{"x", bytes_of(long_text)}, {"d/y", bytes_of("0123")}, {"z", bytes_of(std::string("\0", 1))}};
  const Files other = {{"x", bytes_of(long_text)}, {"d/y", bytes_of("abcd")}};
  const Mutations mutations(files, {other});
  std::set<Changes> seen;
  std::set<Mutation::Kind> kinds;
  int64_t unchanged = 0;
  for (int64_t i = 0; i < mutations.count(); ++i) {
    const Mutation mutation = mutations.at(i);
    kinds.insert(mutation.kind);
    if (mutation.changes.empty()) {
      ++unchanged;
      continue;
    }
    // Only swaps inside runs of one byte, and 00 where xor had come to it, can come twice.
    if (!seen.insert(mutation.changes).second) {
      EXPECT_THAT(mutation.what, testing::AnyOf(testing::HasSubstr("change places"), testing::HasSubstr("set to 00")));
    }
    for (const auto& [file, bytes] : mutation.changes) {
      EXPECT_TRUE(!bytes || *bytes != *files.at(file)) << mutation.what;
    }
  }
  EXPECT_EQ(kinds.size(), 6u);
  // Every byte, length, pair of blocks, pair of neighbours, file, pair of files and file of the other.
  EXPECT_EQ(mutations.count(), (1624 + 4 + 1) * 5 + 3 + 24 + 3 + 3 + 2);
  // The zero set to zero, neighbours that are alike (all but the borders, of which none but the one at 1024 falls inside a pair), and the
  // other's like file.
  EXPECT_GE(unchanged, 3);
}

TEST(Overlay, ShowsTheFilesWithTheirChanges) {
  const Files files = {{"a", bytes_of("one")}, {"d/b", bytes_of("two")}};
  const OverlayStorage storage(files, {{"a", std::nullopt}, {"d/b", *bytes_of("2")}});
  EXPECT_FALSE(storage.exists("a"));
  EXPECT_TRUE(storage.exists("d"));
  EXPECT_EQ(capture([&] { storage.open("a"); }).fault.code, Code::not_found);
  EXPECT_EQ(storage.open("d/b")->size_bytes(), 1);
  ASSERT_EQ(storage.list("").size(), 1u);
  EXPECT_TRUE(storage.list("")[0].is_directory);
  EXPECT_EQ(storage.list("d")[0].name, "b");
  EXPECT_EQ(files_of(storage, "d").size(), 1u);
}

}  // namespace
}  // namespace tessera
