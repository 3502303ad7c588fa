// What a disk may hold after the power went.
#include "tests/support/persistence.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdio.h>  // RENAME_EXCHANGE

#include <set>

#include "tests/support/seed.h"

namespace tessera {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::Key;
using ::testing::Not;
using ::testing::Pair;
using ::testing::SizeIs;

class Persistence : public ::testing::Test {
 protected:
  SimDisk disk_;
  Random random_{seed_of_this_run()};

  int create(const std::string& name) { return disk_.openat(AT_FDCWD, name, O_WRONLY | O_CREAT | O_EXCL, 0644); }
  void sync_directory(const std::string& name) {
    const int directory = disk_.openat(AT_FDCWD, name, O_RDONLY | O_DIRECTORY, 0);
    disk_.fsync(directory);
    disk_.close(directory);
  }
  std::map<std::string, std::string> after(Survives survives) {
    const Recording recording = disk_.recording();
    return tree_of(crash_state(recording, recording.changes.size(), survives, random_));
  }
  // All states that so many tries come to.
  std::set<std::map<std::string, std::string>> states(int tries = 3000) {
    std::set<std::map<std::string, std::string>> found;
    for (int i = 0; i < tries; ++i) found.insert(after(Survives::anything));
    return found;
  }
};

TEST_F(Persistence, WhatWasSyncedIsThereInEveryState) {
  const int file = create("/f");
  disk_.pwrite(file, "abc", 3, 0);
  disk_.fsync(file);
  sync_directory("/");
  EXPECT_THAT(states(), ElementsAre(ElementsAre(Pair("/f", "abc"))));
  for (const Survives survives : extremes) EXPECT_THAT(after(survives), ElementsAre(Pair("/f", "abc")));
}

TEST_F(Persistence, AFileWhoseNameWasNotSyncedMayBeLost) {
  const int file = create("/f");
  disk_.pwrite(file, "abc", 3, 0);
  disk_.fsync(file);
  EXPECT_THAT(states(), ElementsAre(IsEmpty(), ElementsAre(Pair("/f", "abc"))));
}

TEST_F(Persistence, TheExtremesAreWhatTheirNamesSay) {
  const int file = create("/f");
  sync_directory("/");
  disk_.pwrite(file, "abc", 3, 0);
  disk_.renameat2(AT_FDCWD, "/f", AT_FDCWD, "/g", 0);
  EXPECT_THAT(after(Survives::nothing), ElementsAre(Pair("/f", "")));
  EXPECT_THAT(after(Survives::everything), ElementsAre(Pair("/g", "abc")));
  EXPECT_THAT(after(Survives::names), ElementsAre(Pair("/g", "")));
  EXPECT_THAT(after(Survives::data), ElementsAre(Pair("/f", "abc")));
}

TEST_F(Persistence, UnsyncedDataIsLostTornGarbledOrOfAnyLength) {
  const int file = create("/f");
  sync_directory("/");
  disk_.pwrite(file, std::string(1024, 'x').data(), 1024, 0);
  std::set<std::string> contents;
  for (const auto& state : states(20'000)) contents.insert(state.at("/f"));
  EXPECT_THAT(contents, Contains(""));
  EXPECT_THAT(contents, Contains(std::string(1024, 'x')));
  EXPECT_THAT(contents, Contains(std::string(512, '\0') + std::string(512, 'x'))) << "a sector lost";
  EXPECT_THAT(contents, Contains(std::string(1024, '\0'))) << "a length without its data";
  EXPECT_THAT(contents, Contains(SizeIs(700))) << "any length";
}

TEST_F(Persistence, ARenameIsWholeOrNotAtAllAndMayOvertakeAnEarlierOne) {
  for (const char* name : {"/a", "/b"}) disk_.close(create(name));
  sync_directory("/");
  disk_.settle();
  disk_.renameat2(AT_FDCWD, "/a", AT_FDCWD, "/c", 0);
  disk_.renameat2(AT_FDCWD, "/b", AT_FDCWD, "/d", 0);
  std::set<std::string> seen;
  for (const auto& state : states()) {
    EXPECT_THAT(state, SizeIs(2));
    std::string names;
    for (const auto& [name, content] : state) names += name;
    seen.insert(names);
  }
  EXPECT_THAT(seen, ElementsAre("/a/b", "/a/d", "/b/c", "/c/d"));
}

TEST_F(Persistence, AnExchangeShowsBothOrNeither) {
  for (const char* name : {"/a", "/b"}) {
    const int file = create(name);
    disk_.pwrite(file, name, 2, 0);
    disk_.close(file);
  }
  disk_.settle();
  disk_.renameat2(AT_FDCWD, "/a", AT_FDCWD, "/b", RENAME_EXCHANGE);
  EXPECT_THAT(states(), ElementsAre(ElementsAre(Pair("/a", "/a"), Pair("/b", "/b")), ElementsAre(Pair("/a", "/b"), Pair("/b", "/a"))));
}

TEST_F(Persistence, ASyncThatHadNotReturnedPromisesNothing) {
  const int file = create("/f");
  disk_.pwrite(file, "abc", 3, 0);
  disk_.fsync(file);
  sync_directory("/");
  const Recording recording = disk_.recording();
  EXPECT_THAT(tree_of(crash_state(recording, recording.changes.size() - 1, Survives::nothing, random_)), Not(Contains(Key("/f"))));
}

}  // namespace
}  // namespace tessera
