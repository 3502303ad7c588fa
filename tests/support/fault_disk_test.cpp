// A disk that fails as it is told to.
#include "tests/support/fault_disk.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cerrno>

#include "tests/support/sim_disk.h"

namespace tessera {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::Pair;

constexpr int creating = O_WRONLY | O_CREAT | O_EXCL;

class Faulty : public ::testing::Test {
 protected:
  SimDisk inner_;
  FaultDisk disk_{inner_};

  ssize_t write_file(const std::string& name, std::string_view text) {
    const int file = disk_.openat(AT_FDCWD, name, creating, 0644);
    const ssize_t wrote = disk_.pwrite(file, text.data(), text.size(), 0);
    const int why = errno;
    disk_.close(file);
    errno = why;
    return wrote;
  }
};

TEST_F(Faulty, WithoutARuleItIsTheDiskBelow) {
  EXPECT_EQ(write_file("/f", "abc"), 3);
  EXPECT_THAT(tree_of(inner_.image()), ElementsAre(Pair("/f", "abc")));
  std::vector<std::string> told;
  for (const Operation& operation : disk_.operations()) told.push_back(describe(operation));
  EXPECT_THAT(told, ElementsAre("create /f", "pwrite /f", "close /f"));
}

TEST_F(Faulty, TheKthOfItsKindFailsOnceOrForEver) {
  const auto writes_of_g = [](const Operation& operation) { return operation.call == Call::pwrite && operation.path.ends_with("g"); };
  disk_.add({{Trouble::Kind::fail, ENOSPC}, 2, false, writes_of_g});
  disk_.add({{Trouble::Kind::fail, EDQUOT}, 4, true, writes_of_g});
  std::vector<int> errnos;
  for (const char* name : {"/1g", "/1h", "/2g", "/3g", "/4g", "/5g", "/5h"}) {
    errno = 0;
    write_file(name, "x");
    errnos.push_back(errno);
  }
  EXPECT_THAT(errnos, ElementsAre(0, 0, ENOSPC, 0, EDQUOT, EDQUOT, 0));
  EXPECT_EQ(disk_.hit(), "pwrite /2g");
}

TEST_F(Faulty, ShortLostAndGarbledWrites) {
  disk_.add({{Trouble::Kind::shorten}, 2});
  disk_.add({{Trouble::Kind::lose}, 5});
  disk_.add({{Trouble::Kind::garble}, 8});
  EXPECT_EQ(write_file("/short", "abc"), 1);
  EXPECT_EQ(write_file("/lost", "abc"), 3);
  EXPECT_EQ(write_file("/garbled", "abc"), 3);
  EXPECT_THAT(tree_of(inner_.image()), ElementsAre(Pair("/garbled", "arc"), Pair("/lost", ""), Pair("/short", "a")));
}

TEST_F(Faulty, ALyingSyncSyncsNothing) {
  disk_.add({{Trouble::Kind::lose}, 2});
  const int file = disk_.openat(AT_FDCWD, "/f", creating, 0644);
  EXPECT_EQ(disk_.fsync(file), 0);
  EXPECT_EQ(inner_.changes(), 1u);
  EXPECT_EQ(disk_.fsync(file), 0);
  EXPECT_EQ(inner_.changes(), 2u);
}

TEST_F(Faulty, AfterACrashNothingReachesTheDisk) {
  for (const auto& [kind, content] : {std::pair(Trouble::Kind::crash_before, ""), std::pair(Trouble::Kind::crash_after, "abcd"),
                                      std::pair(Trouble::Kind::crash_torn, "ab")}) {
    SimDisk inner;
    FaultDisk disk(inner);
    disk.add({{kind}, 2});
    const int file = disk.openat(AT_FDCWD, "/f", creating, 0644);
    EXPECT_EQ(disk.pwrite(file, "abcd", 4, 0), -1);
    EXPECT_EQ(disk.pwrite(file, "abcd", 4, 0), -1);
    EXPECT_EQ(disk.mkdirat(AT_FDCWD, "/d", 0755), -1);
    struct stat status{};
    EXPECT_EQ(disk.fstat(file, status), -1);
    disk.close(file);
    EXPECT_THAT(tree_of(inner.image()), ElementsAre(Pair("/f", content)));
    EXPECT_EQ(inner.open_descriptors(), 0);
  }
}

TEST_F(Faulty, ACloseThatFailsClosesAllTheSame) {
  disk_.add({{Trouble::Kind::fail, EIO}, 2});
  EXPECT_EQ(disk_.close(disk_.openat(AT_FDCWD, "/f", creating, 0644)), -1);
  EXPECT_EQ(inner_.open_descriptors(), 0);
}

}  // namespace
}  // namespace tessera
