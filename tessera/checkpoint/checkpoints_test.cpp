// The steps of a root when the storage below it misbehaves: which one is the latest, and what a save reports.
#include "tessera/checkpoint/checkpoints.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cerrno>

#include "tessera/base/guarded.h"
#include "tessera/checkpoint/on_ranks_test.h"
#include "tessera/storage/memory_storage.h"

namespace tessera {
namespace {

using ::testing::AllOf;
using ::testing::Contains;
using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;
using ::testing::StartsWith;

// Notes what is opened, and fails where it is told to.
class WatchedStorage final : public Storage {
 public:
  std::unique_ptr<FileWriter> create(const Path& file) override { return below_.create(file); }
  std::unique_ptr<ByteSource> open(const Path& file) const override {
    opened_.with([&](std::vector<Path>& all) { all.push_back(file); });
    if (!unreadable.empty() && file.find(unreadable) != Path::npos) throw Error(os_fault(EIO, "open", file));
    return below_.open(file);
  }
  std::vector<DirectoryEntry> list(const Path& directory) const override {
    if (unlistable) throw Error(os_fault(EIO, "list the directory", directory));
    return below_.list(directory);
  }
  bool exists(const Path& path) const override {
    if (!hidden.empty() && path.find(hidden) != Path::npos) throw Error(os_fault(EACCES, "look for", path));
    return below_.exists(path);
  }
  Path stage(const Path& target, const std::string& id) override { return below_.stage(target, id); }
  void sync(const Path& directory) override { below_.sync(directory); }
  void commit(const Path& staging, const Path& target, const std::string& last, Replace replace, const MayReplace& may_replace) override {
    below_.commit(staging, target, last, replace, may_replace);
  }
  void commit_file(const Path& staged, const Path& target, Replace replace) override { below_.commit_file(staged, target, replace); }
  void remove(const Path& directory) override {
    if (!unremovable.empty() && directory.find(unremovable) != Path::npos) throw Error(os_fault(EACCES, "move to trash", directory));
    below_.remove(directory);
  }
  std::string root() const override { return below_.root(); }

  std::vector<Path> take_opened() {
    return opened_.with([](std::vector<Path>& all) { return std::exchange(all, {}); });
  }

  // Set while no rank is at work.
  Path unreadable = {};
  Path hidden = {};
  Path unremovable = {};
  bool unlistable = false;

 private:
  MemoryStorage below_;
  mutable Guarded<std::vector<Path>> opened_;
};

class Root : public ::testing::Test {
 protected:
  const std::shared_ptr<WatchedStorage> storage_ = std::make_shared<WatchedStorage>();

  void save(Step from, Step to, const CheckpointsOptions& options = {}) {
    all_well(on_ranks(2, [&](Comm& comm) {
      Checkpoints steps(comm, storage_, options);
      for (Step step = from; step <= to; ++step) {
        const SaveReport report = steps.save(step, state());
        if (comm.rank() == 1) warnings_ = report.warnings;  // every rank hears them
      }
    }));
  }
  static StateDict state() {
    StateDict state;
    state.add("value", Value(1));
    return state;
  }
  // What one rank finds.
  Outcome<std::optional<Step>> latest(Depth depth = Depth::names_and_sizes) {
    const auto comms = thread_comms(1);
    Checkpoints steps(*comms.front(), storage_);
    auto found = capture([&] { return steps.latest(depth); });
    skipped_ = steps.skipped();
    return found;
  }
  std::vector<std::string> warnings_;
  std::vector<std::string> skipped_;
};

TEST_F(Root, OfHundredsOfStepsOnlyTheNewestIsRead) {
  save(1, 300);
  for (const Depth depth : {Depth::names_and_sizes, Depth::every_byte}) {
    storage_->take_opened();
    EXPECT_EQ(*latest(depth).value, 300);
    const auto opened = storage_->take_opened();
    EXPECT_THAT(opened, Each(StartsWith("step-00000300/")));
    EXPECT_THAT(opened, SizeIs(::testing::Le(4)));
  }
}

TEST_F(Root, AStepThatCannotBeReadIsPassedOverWithTheReason) {
  save(1, 3);
  storage_->unreadable = "step-00000003/__0_0.distcp";
  EXPECT_EQ(*latest().value, 2);
  EXPECT_THAT(skipped_, ElementsAre(AllOf(StartsWith("step-00000003: "), HasSubstr("EIO"))));
  storage_->unreadable = "";
  storage_->hidden = "step-00000003/.metadata";
  EXPECT_EQ(*latest().value, 2);
  EXPECT_THAT(skipped_, ElementsAre(AllOf(StartsWith("step-00000003: "), HasSubstr("EACCES"))));
}

TEST_F(Root, WhereNoStepCanBeReadNobodyIsToldToStartAfresh) {
  save(1, 2);
  storage_->unreadable = "step-";
  EXPECT_EQ(latest().fault.code, Code::io);
}

TEST_F(Root, ARootThatCannotBeListedIsAnErrorAndOneThatIsNotThereIsEmpty) {
  EXPECT_EQ(*latest().value, std::nullopt);
  save(1, 1);
  storage_->unlistable = true;
  EXPECT_EQ(latest().fault.code, Code::io);
}

TEST_F(Root, ADirectoryWithoutMetadataIsNoStep) {
  save(1, 1);
  storage_->stage("step-00000002/x", "half");
  EXPECT_EQ(*latest().value, 1);
  EXPECT_THAT(skipped_, IsEmpty());
}

TEST_F(Root, AnOldStepThatCannotBeRemovedIsAWarningAndNoFailure) {
  save(1, 3);
  storage_->unremovable = "step-00000001";
  save(4, 4, {.keep_last = 2});
  EXPECT_THAT(warnings_, Contains(AllOf(HasSubstr("step-00000001 could not be removed"), HasSubstr("EACCES"))));
  EXPECT_THAT(steps_of(*storage_), ElementsAre(1, 3, 4));
}

TEST_F(Root, WhereTheNewStepCannotBeReadBackNothingIsRemoved) {
  save(1, 3);
  storage_->unreadable = "step-00000004";
  save(4, 4, {.keep_last = 1});
  EXPECT_THAT(warnings_, Contains(HasSubstr("step-00000004 is damaged or cannot be read")));
  EXPECT_THAT(steps_of(*storage_), ElementsAre(1, 2, 3, 4));
}

}  // namespace
}  // namespace tessera
