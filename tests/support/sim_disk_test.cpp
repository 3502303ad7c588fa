// The disk that is not there does what the one that is there does.
#include "tests/support/sim_disk.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdio.h>  // RENAME_EXCHANGE

#include <cerrno>
#include <random>

#include "tests/support/seed.h"
#include "tests/support/temporary_directory.h"

namespace tessera {
namespace {

using ::testing::ElementsAre;
using ::testing::Pair;

// A random program of system calls, told as the results that it had.
class Program {
 public:
  Program(FileSystem& files, const std::string& root, uint64_t seed) : files_(files), root_(root), random_(seed) {
    for (const char* name : {"d", "e"}) files_.mkdirat(AT_FDCWD, root_ + "/" + name, 0755);
    for (const char* name : {"", "/d", "/e"}) {
      directories_.push_back(files_.openat(AT_FDCWD, root_ + name, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0));
    }
  }
  ~Program() {
    for (const int directory : directories_) files_.close(directory);
  }

  std::string step() {
    const int here = directory();
    const int there = directory();
    const std::string from = name();
    const std::string to = name();
    switch (random_() % 8) {
      case 0: return told("create", file_at(here, from, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW));
      case 1: return told("mkdir", files_.mkdirat(here, from, 0755));
      case 2: return told("rename", files_.renameat2(here, from, there, to, 0));
      case 3: return told("rename to a free name", files_.renameat2(here, from, there, to, RENAME_NOREPLACE));
      case 4: return told("exchange", files_.renameat2(here, from, there, to, RENAME_EXCHANGE));
      case 5: return told("link", files_.linkat(here, from, there, to, 0));
      case 6: return told("unlink", files_.unlinkat(here, from, random_() % 2 ? AT_REMOVEDIR : 0));
      default: return told("read", read(here, from));
    }
  }

 private:
  int directory() { return directories_[random_() % directories_.size()]; }
  // Names of directories that are open are never moved into another, where Linux has loops to look for.
  std::string name() { return std::string(1, static_cast<char>('m' + random_() % 4)); }
  std::string told(const char* what, ssize_t result) { return std::string(what) + " " + std::to_string(result < 0 ? -errno : result); }

  int file_at(int directory, const std::string& name, int flags) {
    const int file = files_.openat(directory, name, flags | O_CLOEXEC, 0644);
    if (file < 0) return -1;
    const auto offset = static_cast<off_t>(random_() % 50);
    files_.pwrite(file, "some text", random_() % 9, offset);
    files_.pwrite(file, "other", 5, 2);
    struct stat status{};
    files_.fstat(file, status);
    files_.close(file);
    return static_cast<int>(status.st_size);
  }
  ssize_t read(int directory, const std::string& name) {
    struct stat status{};
    if (files_.fstatat(directory, name, status, AT_SYMLINK_NOFOLLOW) != 0) return -1;
    if (S_ISDIR(status.st_mode)) {
      const int inner = files_.openat(directory, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
      std::vector<DirectoryEntry> entries;
      files_.list(inner, entries);
      files_.close(inner);
      return 1000 + static_cast<ssize_t>(entries.size());
    }
    const int file = files_.openat(directory, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW, 0);
    char bytes[100] = {};
    const ssize_t got = files_.pread(file, bytes, sizeof bytes, 3);
    files_.close(file);
    ssize_t sum = got;
    for (const char byte : bytes) sum = sum * 31 % 1'000'003 + byte;
    return sum;
  }

  FileSystem& files_;
  const std::string root_;
  std::mt19937_64 random_;
  std::vector<int> directories_;
};

TEST(SimDisk, AnswersAsTheSystemDoes) {
  const uint64_t seed = seed_of_this_run();
  const auto rounds = static_cast<uint64_t>(scaled(20));
  for (uint64_t round = 0; round < rounds; ++round) {
    TemporaryDirectory directory;
    SimDisk disk;
    disk.mkdirat(AT_FDCWD, "/root", 0755);
    Program real(posix(), directory.path(), seed + round);
    Program simulated(disk, "/root", seed + round);
    for (int step = 0; step < 200; ++step) ASSERT_EQ(real.step(), simulated.step()) << "round " << round << ", step " << step;
  }
}

TEST(SimDisk, RemembersEveryChangeInOrder) {
  SimDisk disk;
  const int file = disk.openat(AT_FDCWD, "/f", O_WRONLY | O_CREAT | O_EXCL, 0644);
  disk.pwrite(file, "abc", 3, 0);
  disk.settle();
  disk.pwrite(file, "B", 1, 1);
  disk.fsync(file);
  disk.renameat2(AT_FDCWD, "/f", AT_FDCWD, "/g", 0);
  disk.close(file);
  DiskImage again = disk.recording().base;
  EXPECT_THAT(tree_of(again), ElementsAre(Pair("/f", "abc")));
  EXPECT_EQ(disk.changes(), 3u);
  for (const Change& change : disk.recording().changes) redo(again, change);
  EXPECT_EQ(tree_of(again), tree_of(disk.image()));
  EXPECT_THAT(tree_of(again), ElementsAre(Pair("/g", "aBc")));
  EXPECT_EQ(disk.open_descriptors(), 0);
}

TEST(SimDisk, NothingIsRenamedOntoAMount) {
  SimDisk disk;
  disk.mkdirat(AT_FDCWD, "/a", 0755);
  disk.mkdirat(AT_FDCWD, "/b", 0755);
  disk.mount("/b");
  EXPECT_EQ(disk.renameat2(AT_FDCWD, "/a", AT_FDCWD, "/b", 0), -1);
  EXPECT_EQ(errno, EBUSY);
}

}  // namespace
}  // namespace tessera
