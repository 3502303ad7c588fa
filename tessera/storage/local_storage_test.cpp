// What only a file system can do to a storage: links, pipes, modes, mounts, failing system calls.
#include "tessera/storage/local_storage.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <fstream>
#include <functional>
#include <map>

#include "tessera/storage/local_commit.h"
#include "tessera/storage/names.h"
#include "tests/support/temporary_directory.h"

namespace tessera {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Pair;
using ::testing::StartsWith;
using ::testing::UnorderedElementsAre;

void put(const fs::path& file, std::string_view text) {
  fs::create_directories(file.parent_path());
  std::ofstream(file, std::ios::binary) << text;
}
std::string text_of(const fs::path& file) {
  std::ifstream in(file, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}
// Relative path → content; a directory ends in '/'.
std::map<std::string, std::string> tree(const fs::path& root) {
  std::map<std::string, std::string> found;
  for (const auto& entry : fs::recursive_directory_iterator(root)) {
    const std::string name = fs::relative(entry.path(), root).string();
    if (entry.is_directory()) found.emplace(name + "/", "");
    else found.emplace(name, text_of(entry.path()));
  }
  return found;
}

template <class Work>
Fault fault_of_work(Work work) {
  const auto outcome = capture(work);
  EXPECT_FALSE(outcome) << "it was expected to fail";
  return outcome.fault;
}

class Local : public ::testing::Test {
 protected:
  TemporaryDirectory directory_;
  LocalStorage storage_{directory_.path()};

  fs::path at(const std::string& name) const { return fs::path(directory_.path()) / name; }
  Path staged(const Path& target, const std::string& id, std::string_view content) {
    const Path staging = storage_.stage(target, id);
    put(at(staging) / "data", content);
    put(at(staging) / "last", content);
    return staging;
  }
};

// Runs `work` in a child process that may change its identity or its mounts, and returns its exit code. `work` returns "" if
// all was well and else what was not; "skip" where this machine does not let it try.
std::string in_child(const std::function<std::string()>& work) {
  int ends[2];
  if (::pipe(ends) != 0) return "no pipe";
  const pid_t child = ::fork();
  if (child == 0) {
    std::string said;
    try {
      said = work();
    } catch (const std::exception& error) {
      said = error.what();
    }
    const bool told = ::write(ends[1], said.data(), said.size()) == static_cast<ssize_t>(said.size());
    ::_exit(told ? 0 : 1);
  }
  ::close(ends[1]);
  std::string said;
  char buffer[512];
  for (ssize_t count; (count = ::read(ends[0], buffer, sizeof buffer)) > 0;) said.append(buffer, static_cast<size_t>(count));
  ::close(ends[0]);
  int status = 0;
  ::waitpid(child, &status, 0);
  return status == 0 ? said : "the child ended with status " + std::to_string(status) + ": " + said;
}

// As somebody whom modes stop. The temporary directory is made theirs first.
std::string as_nobody(const fs::path& home, const std::function<std::string()>& work) {
  return in_child([&]() -> std::string {
    if (::geteuid() == 0) {
      for (const auto& entry : fs::recursive_directory_iterator(home)) {
        if (::lchown(entry.path().c_str(), 65534, 65534) != 0) return "skip";
      }
      if (::chown(home.c_str(), 65534, 65534) != 0 || ::setgid(65534) != 0 || ::setuid(65534) != 0) return "skip";
    }
    return work();
  });
}

// --- Containment

TEST_F(Local, FollowsNoLinkToAFile) {
  put(at("secret"), "s");
  put(at("c/data"), "x");
  fs::create_symlink(at("secret"), at("c/link"));
  fs::create_symlink("data", at("c/inner"));  // not even one that stays inside
  for (const char* name : {"c/link", "c/inner"}) {
    const Fault fault = fault_of_work([&] { storage_.open(name); });
    EXPECT_EQ(fault.code, Code::io);
    EXPECT_EQ(fault.file, name);
    EXPECT_THAT(fault.what, HasSubstr("symbolic link"));
  }
}

TEST_F(Local, FollowsNoLinkToADirectory) {
  put(at("outside/data"), "s");
  put(at("root/c/data"), "x");
  fs::create_symlink(at("outside"), at("root/link"));
  LocalStorage storage(at("root").string());
  for (const auto& work : std::vector<std::function<void()>>{
           [&] { storage.open("link/data"); },
           [&] { storage.create("link/new"); },
           [&] { storage.list("link"); },
           [&] { storage.sync("link"); },
           [&] { storage.exists("link/data"); },
           [&] { storage.stage("link/c", "1"); },
           [&] { storage.remove("link/data"); },
       }) {
    const Fault fault = fault_of_work(work);
    EXPECT_EQ(fault.code, Code::io);
    EXPECT_EQ(fault.file, "link");
    EXPECT_THAT(fault.what, HasSubstr("symbolic link"));
  }
  EXPECT_THAT(tree(at("outside")), UnorderedElementsAre(Pair("data", "s")));
}

TEST_F(Local, ALinkIsNeitherReplacedNorRemoved) {
  put(at("outside/data"), "s");
  fs::create_directory_symlink(at("outside"), at("c"));
  EXPECT_EQ(fault_of_work([&] { storage_.stage("c", "1"); }).code, Code::exists);
  EXPECT_EQ(fault_of_work([&] { storage_.remove("c"); }).code, Code::exists);
  const Path staging = staged("d", "2", "x");
  EXPECT_EQ(fault_of_work([&] { storage_.commit(staging, "c", "last", Replace::exchange); }).code, Code::exists);
  EXPECT_TRUE(fs::is_symlink(at("c")));
  EXPECT_EQ(text_of(at("outside/data")), "s");
}

TEST_F(Local, RemovingFollowsNoLinkOutOfTheDirectory) {
  put(at("outside/data"), "s");
  put(at("root/c/deep/er/data"), "x");
  fs::create_directory_symlink(at("outside"), at("root/c/link"));
  fs::create_symlink(at("outside/data"), at("root/c/deep/link"));
  LocalStorage(at("root").string()).remove("c");
  EXPECT_THAT(tree(at("root")), IsEmpty());
  EXPECT_EQ(text_of(at("outside/data")), "s");
}

TEST_F(Local, ListsALinkAsNoDirectory) {
  fs::create_directory(at("d"));
  fs::create_directory_symlink("d", at("l"));
  for (const DirectoryEntry& entry : storage_.list("")) EXPECT_EQ(entry.is_directory, entry.name == "d") << entry.name;
}

TEST_F(Local, TheRootItselfMayBeALink) {
  put(at("real/c/data"), "x");
  fs::create_directory_symlink("real", at("latest"));
  EXPECT_EQ(LocalStorage(at("latest").string()).open("c/data")->size_bytes(), 1);
}

TEST_F(Local, RefusesAPipeWithoutWaitingForItsOtherEnd) {
  ASSERT_EQ(::mkfifo(at("pipe").c_str(), 0600), 0);
  const Fault fault = fault_of_work([&] { storage_.open("pipe"); });
  EXPECT_EQ(fault.code, Code::io);
  EXPECT_EQ(fault.what, "not a regular file");
}

// --- The root

TEST_F(Local, TheRootIsMadeByTheFirstSaveWithAllThatIsMissingAboveIt) {
  for (const char* name : {"a/b/c", "d/e/", "f//g//"}) {
    LocalStorage storage(at(name).string());
    EXPECT_FALSE(storage.exists(""));
    EXPECT_EQ(fault_of_work([&] { storage.list(""); }).code, Code::not_found);
    EXPECT_FALSE(fs::exists(at(name)));
    EXPECT_EQ(storage.stage("t", "1"), ".tessera-1");
    EXPECT_TRUE(fs::is_directory(at(name) / ".tessera-1"));
    EXPECT_EQ(storage.root(), at(name).string());
  }
}

TEST_F(Local, ARootThatIsAFileIsAnErrorThatNamesIt) {
  put(at("file"), "x");
  LocalStorage storage((at("file") / "runs").string());
  EXPECT_THAT(describe(fault_of_work([&] { storage.stage("t", "1"); })), HasSubstr("file"));
  EXPECT_FALSE(storage.exists("t"));
}

TEST_F(Local, ARelativeRootStaysWhereItWasWhenTheProgramMoves) {
  const std::string said = in_child([&]() -> std::string {
    fs::current_path(directory_.path());
    LocalStorage storage("runs");
    fs::current_path("/");
    storage.stage("t", "1");
    return storage.root() == "runs" ? "" : storage.root();
  });
  EXPECT_EQ(said, "");
  EXPECT_TRUE(fs::is_directory(at("runs/.tessera-1")));
}

TEST(LocalRoot, AnEmptyRootIsRefused) { EXPECT_THROW(LocalStorage(""), Error); }

// --- Files

TEST_F(Local, AWriterThatIsDroppedLeavesTheFileForReclaimAndNoDescriptor) {
  const auto open_files = [] { return std::distance(fs::directory_iterator("/proc/self/fd"), {}); };
  const auto before = open_files();
  const Path staging = storage_.stage("c", "1");
  storage_.create(staging + "/f")->write(0, as_bytes("half"));
  fault_of_work([&] { storage_.create(staging + "/f"); });
  fault_of_work([&] { storage_.open(staging); });
  storage_.list("");
  storage_.remove(staging);
  EXPECT_EQ(open_files(), before);
}

TEST_F(Local, CloseDoesNotSyncTwice) {
  const auto writer = storage_.create(storage_.stage("c", "1") + "/f");
  writer->close();
  EXPECT_THROW(writer->close(), Error);
  EXPECT_THROW(writer->write(0, as_bytes("x")), Error);
}

TEST_F(Local, AWriteBeyondTheFileSizeLimitNamesFileOffsetAndErrno) {
  const std::string said = in_child([&]() -> std::string {
    ::signal(SIGXFSZ, SIG_IGN);
    const rlimit limit{4096, 4096};
    if (::setrlimit(RLIMIT_FSIZE, &limit) != 0) return "no limit";
    const auto writer = storage_.create(storage_.stage("c", "1") + "/f");
    const Fault fault = fault_of_work([&] { writer->write(0, Bytes(10000)); });  // the first part fits: a short write
    return describe(fault);
  });
  EXPECT_EQ(said, ".tessera-1/f at byte 4096: write: File too large (EFBIG)");
}

TEST_F(Local, AFullDiskIsNoSpaceWithAHint) {
  const std::string said = in_child([&]() -> std::string {
    if (::unshare(CLONE_NEWNS) != 0 || ::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) return "skip";
    fs::create_directory(at("small"));
    if (::mount("none", at("small").c_str(), "tmpfs", 0, "size=64k") != 0) return "skip";
    LocalStorage storage(at("small").string());
    const auto writer = storage.create(storage.stage("c", "1") + "/f");
    const Fault fault = fault_of_work([&] { writer->write(0, Bytes(1 << 20)); });
    if (fault.code != Code::no_space) return describe(fault);
    return fault.hint.empty() ? "no hint" : "";
  });
  if (said == "skip") GTEST_SKIP() << "no mounts here";
  EXPECT_EQ(said, "");
}

TEST_F(Local, AFileThatIsCutWhileItIsOpenIsCorrupt) {
  put(at("f"), "0123456789");
  const auto source = storage_.open("f");
  fs::resize_file(at("f"), 5);
  Bytes bytes(10);
  const Fault fault = fault_of_work([&] { source->read(0, bytes); });
  EXPECT_EQ(fault.code, Code::corrupt);
  EXPECT_EQ(fault.offset_bytes, 5);
}

// --- Publishing beside the target

TEST_F(Local, ACommitTakesAnEmptyTargetWithItsMode) {
  fs::create_directory(at("c"));
  fs::permissions(at("c"), fs::perms::owner_all);
  storage_.commit(staged("c", "1", "x"), "c", "last", Replace::never);
  EXPECT_EQ(text_of(at("c/data")), "x");
  EXPECT_EQ(fs::status(at("c")).permissions(), fs::perms::owner_all);
}

TEST_F(Local, SwappingKeepsTheOldContentUntilTheNewOneStands) {
  put(at("c/sub/old"), "old");
  storage_.commit(staged("c", "1", "new"), "c", "last", Replace::exchange);
  EXPECT_THAT(tree(directory_.path()), UnorderedElementsAre(Pair("c/", ""), Pair("c/data", "new"), Pair("c/last", "new")));
}

TEST_F(Local, TheGapPutsTheNewInPlaceOfTheOld) {
  put(at("c/old"), "old");
  const Path staging = staged("c", "1", "new");
  replace_with_gap({posix(), directory_.path()}, staging, "c");
  EXPECT_THAT(tree(directory_.path()), UnorderedElementsAre(Pair("c/", ""), Pair("c/data", "new"), Pair("c/last", "new")));
}

TEST_F(Local, AGapThatCannotBeClosedIsTakenBack) {
  put(at("c/old"), "old");
  const Fault fault = fault_of_work([&] { replace_with_gap({posix(), directory_.path()}, ".tessera-none", "c"); });
  EXPECT_EQ(fault.os_errno, ENOENT);
  EXPECT_THAT(tree(directory_.path()), UnorderedElementsAre(Pair("c/", ""), Pair("c/old", "old")));
}

TEST_F(Local, ThatTheOldContentCannotBeDeletedDoesNotUndoTheSave) {
  fs::permissions(directory_.path(), fs::perms::all);
  put(at("c/locked/old"), "old");
  const Path staging = staged("c", "1", "new");
  const std::string said = as_nobody(directory_.path(), [&]() -> std::string {
    fs::permissions(at("c/locked"), fs::perms::owner_read | fs::perms::owner_exec);
    storage_.commit(staging, "c", "last", Replace::exchange);
    return "";
  });
  if (said == "skip") GTEST_SKIP() << "cannot become somebody else here";
  EXPECT_EQ(said, "");
  EXPECT_EQ(text_of(at("c/data")), "new");
  std::vector<std::string> others;
  for (const DirectoryEntry& entry : storage_.list("")) {
    if (entry.name != "c") others.push_back(entry.name);
  }
  ASSERT_EQ(others.size(), 1u);
  EXPECT_TRUE(is_trash_name(others[0]));
  fs::permissions(at(others[0]) / "locked", fs::perms::owner_all);
}

// --- Publishing inside the target

TEST_F(Local, StagesInsideATargetWhoseParentIsClosed) {
  fs::create_directories(at("closed/c"));
  const std::string said = as_nobody(directory_.path(), [&]() -> std::string {
    fs::permissions(at("closed"), fs::perms::owner_read | fs::perms::owner_exec);
    const Path staging = storage_.stage("closed/c", "1");
    if (staging != "closed/c/.tessera-1") return "staged in " + staging;
    put(at(staging) / "data", "x");
    put(at(staging) / "last", "x");
    storage_.commit(staging, "closed/c", "last", Replace::never);
    return "";
  });
  if (said == "skip") GTEST_SKIP() << "cannot become somebody else here";
  EXPECT_EQ(said, "");
  EXPECT_THAT(tree(at("closed/c")), UnorderedElementsAre(Pair("data", "x"), Pair("last", "x")));
  fs::permissions(at("closed"), fs::perms::owner_all);
}

TEST_F(Local, AClosedPlaceIsAnErrorWithAHint) {
  fs::create_directories(at("closed"));
  const std::string said = as_nobody(directory_.path(), [&]() -> std::string {
    fs::permissions(at("closed"), fs::perms::owner_read | fs::perms::owner_exec);
    const Fault fault = fault_of_work([&] { storage_.stage("closed/c", "1"); });
    return describe(fault) + "; " + fault.hint;
  });
  if (said == "skip") GTEST_SKIP() << "cannot become somebody else here";
  EXPECT_EQ(said, "closed/.tessera-1: make the directory: Permission denied (EACCES); check the owner and the mode of the directory");
  fs::permissions(at("closed"), fs::perms::owner_all);
}

TEST_F(Local, StagesInsideATargetThatIsAMountPoint) {
  fs::create_directories(at("disk"));
  fs::create_directories(at("c"));
  const std::string said = in_child([&]() -> std::string {
    if (::unshare(CLONE_NEWNS) != 0 || ::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) return "skip";
    // Once a part of the same file system, which st_dev does not tell, and once another one.
    if (::mount(at("disk").c_str(), at("c").c_str(), nullptr, MS_BIND, nullptr) != 0) return "skip";
    const Path bound = staged("c", "1", "x");
    storage_.commit(bound, "c", "last", Replace::never);
    if (bound != "c/.tessera-1") return "staged in " + bound;
    fs::create_directory(at("d"));
    if (::mount("none", at("d").c_str(), "tmpfs", 0, nullptr) != 0) return "skip";
    const Path other = staged("d", "2", "y");
    storage_.commit(other, "d", "last", Replace::never);
    return other == "d/.tessera-2" && text_of(at("d/last")) == "y" ? "" : "staged in " + other;
  });
  if (said == "skip") GTEST_SKIP() << "no mounts here";
  EXPECT_EQ(said, "");
  EXPECT_THAT(tree(at("disk")), UnorderedElementsAre(Pair("data", "x"), Pair("last", "x")));
}

class Inside : public Local {
 protected:
  void stage_inside(const std::string& id, std::string_view content) {
    put(at("c/.tessera-" + id) / "data", content);
    put(at("c/.tessera-" + id) / "last", content);
  }
};

TEST_F(Inside, MovesEverythingUpAndLeavesNoStagingDirectory) {
  stage_inside("1", "x");
  put(at("c/.tessera-1/sub/more"), "m");
  storage_.commit("c/.tessera-1", "c", "last", Replace::never);
  EXPECT_THAT(tree(at("c")), UnorderedElementsAre(Pair("data", "x"), Pair("last", "x"), Pair("sub/", ""), Pair("sub/more", "m")));
}

TEST_F(Inside, RefusesATargetThatHoldsAnythingAndLosesNothing) {
  stage_inside("1", "new");
  put(at("c/data"), "old");
  const auto before = tree(at("c"));
  for (const Replace replace : {Replace::never, Replace::exchange, Replace::with_gap}) {
    EXPECT_EQ(fault_of_work([&] { storage_.commit("c/.tessera-1", "c", "last", replace); }).code, Code::exists);
    EXPECT_EQ(tree(at("c")), before);
  }
}

TEST_F(Inside, OfTwoSavesInOneTargetTheSecondIsRefused) {
  stage_inside("1", "one");
  stage_inside("2", "two");
  storage_.commit("c/.tessera-2", "c", "last", Replace::never);
  EXPECT_EQ(fault_of_work([&] { storage_.commit("c/.tessera-1", "c", "last", Replace::never); }).code, Code::exists);
  EXPECT_EQ(text_of(at("c/data")) + text_of(at("c/last")), "twotwo");
  EXPECT_EQ(text_of(at("c/.tessera-1/data")), "one");
}

TEST_F(Inside, AFailureBeforeTheLastFileAppearsTakesTheMovesBack) {
  stage_inside("1", "x");
  put(at("c/.tessera-1/more"), "m");
  const auto before = tree(at("c"));
  const Fault fault = fault_of_work([&] { commit_inside({posix(), directory_.path()}, "c/.tessera-1", "c", "gone"); });
  EXPECT_EQ(fault.os_errno, ENOENT);
  EXPECT_EQ(tree(at("c")), before);
}

// --- Crash

// Kills the process at a random moment of a replacing save, over and over: a reader always finds one whole checkpoint.
TEST_F(Local, KilledAtAnyMomentOfAReplacementOneWholeCheckpointIsThere) {
  put(at("c/data"), "0");
  put(at("c/last"), "0");
  for (int round = 1; round <= 40; ++round) {
    int ends[2];
    ASSERT_EQ(::pipe(ends), 0);
    const pid_t child = ::fork();
    if (child == 0) {
      capture([&] {
        for (int i = 0;; ++i) {
          const std::string content = std::to_string(round) + "." + std::to_string(i);
          const Path staging = staged("c", content, content);
          storage_.commit(staging, "c", "last", Replace::exchange);
          if (i == 0 && ::write(ends[1], "x", 1) != 1) return;
        }
      });
      ::_exit(1);
    }
    ::close(ends[1]);
    char first_save_done = 0;
    EXPECT_EQ(::read(ends[0], &first_save_done, 1), 1);
    ::usleep(static_cast<useconds_t>(37 * round));
    ::kill(child, SIGKILL);
    ::waitpid(child, nullptr, 0);
    ::close(ends[0]);
    ASSERT_THAT(text_of(at("c/data")), StartsWith(std::to_string(round) + "."));
    ASSERT_EQ(text_of(at("c/data")), text_of(at("c/last"))) << "round " << round;
    for (const DirectoryEntry& entry : storage_.list("")) {
      if (entry.name == "c") continue;
      ASSERT_TRUE(is_staging_name(entry.name) || is_trash_name(entry.name)) << entry.name;
      storage_.remove(entry.name);
    }
  }
}

}  // namespace
}  // namespace tessera
