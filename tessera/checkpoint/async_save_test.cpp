// Saves in the background, on ranks that are threads: what is staged may change, what failed is told on every rank, and a save that is
// given up leaves what stood before.
#include "tessera/checkpoint/async_save.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <numeric>
#include <set>
#include <thread>

#include "tessera/base/guarded.h"
#include "tessera/checkpoint/checkpoints.h"
#include "tessera/checkpoint/on_ranks_test.h"
#include "tessera/storage/memory_storage.h"
#include "tests/support/temporary_directory.h"

namespace tessera {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

// A storage that holds up writes until it is told to go on, and can fail them.
class Gate final : public Storage {
 public:
  void close() { open_ = false; }
  void open() {
    open_ = true;
    open_.notify_all();
  }
  void fail_on(std::string file) { fails_ = std::move(file); }
  // Waits until somebody stands before the closed gate.
  void wait_for_someone() const { waiting_.wait(0); }
  // Of the threads that wrote data files.
  std::set<int> niceness() const {
    return niceness_.with([](const std::set<int>& seen) { return seen; });
  }

  std::unique_ptr<FileWriter> create(const Path& file) override {
    return std::make_unique<Writer>(*this, memory_.create(file), !fails_.empty() && file.ends_with(fails_));
  }
  std::unique_ptr<ByteSource> open(const Path& file) const override { return memory_.open(file); }
  std::vector<DirectoryEntry> list(const Path& directory) const override { return memory_.list(directory); }
  bool exists(const Path& path) const override { return memory_.exists(path); }
  Path stage(const Path& target, const std::string& id) override { return memory_.stage(target, id); }
  void sync(const Path& directory) override { memory_.sync(directory); }
  void commit(const Path& staging, const Path& target, const std::string& last, Replace replace, const MayReplace& may_replace) override {
    memory_.commit(staging, target, last, replace, may_replace);
  }
  void commit_file(const Path& staged, const Path& target, Replace replace) override { memory_.commit_file(staged, target, replace); }
  void remove(const Path& directory) override { memory_.remove(directory); }
  std::string root() const override { return "gate"; }

 private:
  class Writer final : public FileWriter {
   public:
    Writer(Gate& gate, std::unique_ptr<FileWriter> file, bool fails) : gate_(gate), file_(std::move(file)), fails_(fails) {}
    void write(int64_t offset_bytes, std::span<const std::byte> bytes) override {
      if (!gate_.open_) {
        ++gate_.waiting_;
        gate_.waiting_.notify_all();
        gate_.open_.wait(false);
      }
      if (bytes.size() > 4096) {
        gate_.niceness_.with(
            [](std::set<int>& seen) { seen.insert(::getpriority(PRIO_PROCESS, static_cast<id_t>(::syscall(SYS_gettid)))); });
      }
      if (fails_) throw Error({.code = Code::no_space, .what = "write", .offset_bytes = offset_bytes});
      file_->write(offset_bytes, bytes);
    }
    int64_t close() override { return file_->close(); }

   private:
    Gate& gate_;
    const std::unique_ptr<FileWriter> file_;
    const bool fails_;
  };
  MemoryStorage memory_;
  std::atomic<bool> open_ = true;
  std::atomic<int> waiting_ = 0;
  std::string fails_;
  mutable Guarded<std::set<int>> niceness_;
};

// This rank's part of a tensor of 16 MB.
struct RankState {
  std::vector<float> memory;
  StateDict state;
  RankState(const Comm& comm, float offset) {
    const int64_t rows = 4'000'000;
    const int64_t begin = rows * comm.rank() / comm.size();
    const int64_t end = rows * (comm.rank() + 1) / comm.size();
    memory.resize(static_cast<size_t>(end - begin));
    std::iota(memory.begin(), memory.end(), offset + static_cast<float>(begin));
    const Box box{{begin}, {end - begin}};
    state.add(
        "w",
        TensorLeaf{DType::float32, {rows}, {{box, dense_view(reinterpret_cast<std::byte*>(memory.data()), DType::float32, box.sizes)}}});
    state.add("object", Value("same"));
  }
};

void expect_saved(Comm& comm, Checkpoints& steps, Step step, float offset) {
  RankState mine(comm, -1);
  steps.load(step, mine.state);
  EXPECT_EQ(mine.memory, RankState(comm, offset).memory);
}

TEST(AsyncSave, SavesWhatTheTensorsHeldWhenTheyWereStaged) {
  for (const int ranks : {1, 3}) {
    const auto storage = std::make_shared<Gate>();
    all_well(on_ranks(ranks, [&](Comm& comm) {
      Checkpoints steps(comm, storage);
      RankState mine(comm, 7);
      storage->close();
      const PendingSave save = steps.async_save(1, mine.state);
      save.wait_staged();
      std::ranges::fill(mine.memory, -5.0f);
      EXPECT_FALSE(save.is_done());
      barrier(comm, "the trainer's own rounds go on");
      storage->open();
      const SaveReport report = save.wait();
      EXPECT_TRUE(save.is_done());
      EXPECT_FALSE(report.in_waves);
      EXPECT_LE(report.stall_seconds, report.seconds);
      EXPECT_GE(report.peak_staging_bytes, report.rank_bytes);
      expect_saved(comm, steps, 1, 7);
    }));
  }
}

// The thread that writes tells its niceness while it stands before the gate.
TEST(AsyncSave, ItsThreadsStandBackAndTheTrainersDoNot) {
  const auto storage = std::make_shared<Gate>();
  all_well(on_ranks(1, [&](Comm& comm) {
    Checkpoints steps(comm, storage);
    steps.warm(int64_t{32} << 20);
    const RankState mine(comm, 7);
    const PendingSave save = steps.async_save(1, mine.state, {.save = {.io = {.threads = 2}}, .background = {.niceness = 5}});
    const SaveReport report = save.wait();
    EXPECT_EQ(storage->niceness(), std::set<int>{5});
    EXPECT_EQ(report.write.threads, 2);
    const int mine_now = ::getpriority(PRIO_PROCESS, static_cast<id_t>(::syscall(SYS_gettid)));
    EXPECT_NE(mine_now, 5);
    expect_saved(comm, steps, 1, 7);
  }));
}

TEST(AsyncSave, CoresThatAreNotThereAreRefusedOnEveryRank) {
  const auto storage = std::make_shared<Gate>();
  const auto outcomes = on_ranks(2, [&](Comm& comm) {
    Checkpoints steps(comm, storage);
    const RankState mine(comm, 7);
    AsyncOptions options;
    if (comm.rank() == 1) options.background.cpus = {-1};
    steps.async_save(1, mine.state, options).wait();
  });
  for (const auto& outcome : outcomes) {
    EXPECT_EQ(outcome.fault.code, Code::invalid_argument);
    EXPECT_EQ(outcome.fault.rank, 1);
  }
}

TEST(AsyncSave, ARateHoldsTheSaveBackAndNotTheTrainer) {
  const auto storage = std::make_shared<Gate>();
  all_well(on_ranks(1, [&](Comm& comm) {
    Checkpoints steps(comm, storage);
    const RankState mine(comm, 7);
    const auto begin = std::chrono::steady_clock::now();
    steps.async_save(1, mine.state, {.save = {.io = {.most_bytes_per_second = int64_t{64} << 20}}}).wait();
    // 15 MiB at 64 MiB a second, of which the last block may go at once.
    EXPECT_GE(std::chrono::steady_clock::now() - begin, std::chrono::milliseconds(210));
    expect_saved(comm, steps, 1, 7);
  }));
}

TEST(AsyncSave, AStateBeyondTheBudgetGoesInWavesAndTheReportSaysSo) {
  const auto storage = std::make_shared<Gate>();
  all_well(on_ranks(2, [&](Comm& comm) {
    Checkpoints steps(comm, storage, {.staging_bytes = int64_t{4} << 20});
    RankState mine(comm, 7);
    storage->close();
    const PendingSave save = steps.async_save(1, mine.state);
    storage->wait_for_someone();
    EXPECT_FALSE(save.is_staged()) << "the last wave has not been copied";
    barrier(comm, "both are saving");
    storage->open();
    const SaveReport report = save.wait();
    EXPECT_TRUE(report.in_waves);
    EXPECT_LE(report.peak_staging_bytes, int64_t{4} << 20);
    expect_saved(comm, steps, 1, 7);
  }));
}

TEST(AsyncSave, AFailureInTheBackgroundIsThrownOnEveryRankByWaitOrElseByTheNextCall) {
  for (const bool waits : {true, false}) {
    const auto storage = std::make_shared<Gate>();
    all_well(on_ranks(3, [&](Comm& comm) {
      Checkpoints steps(comm, storage);
      steps.save(1, RankState(comm, 1).state);
      barrier(comm, "saved");
      if (comm.rank() == 0) storage->fail_on("__2_0.distcp");
      barrier(comm, "broken");
      const RankState mine(comm, 2);
      const PendingSave save = steps.async_save(2, mine.state);
      save.wait_staged();
      const auto told = capture([&] { waits ? (void)save.wait() : (void)steps.latest(); });
      EXPECT_EQ(told.fault.code, Code::no_space);
      EXPECT_EQ(told.fault.rank, 2);
      EXPECT_EQ(steps.latest(), 1) << "told once, and the step before still stands";
    }));
    EXPECT_THAT(storage->list(""), testing::SizeIs(1)) << "nothing is left of the failed save";
  }
}

TEST(AsyncSave, AStateThatOneRankCannotDescribeFailsOnAll) {
  const auto storage = std::make_shared<Gate>();
  all_well(on_ranks(2, [&](Comm& comm) {
    Checkpoints steps(comm, storage);
    RankState mine(comm, 2);
    if (comm.rank() == 1) std::get<TensorLeaf>(mine.state.leaves.at("w").is).dtype = DType::int64;
    const auto failed = capture([&] { steps.async_save(1, mine.state).wait(); });
    EXPECT_EQ(failed.fault.code, Code::invalid_argument);
    EXPECT_EQ(failed.fault.rank, 1);
  }));
}

TEST(AsyncSave, ASecondSaveWaitsIsRefusedOrReplacesTheFirst) {
  const auto storage = std::make_shared<Gate>();
  all_well(on_ranks(2, [&](Comm& comm) {
    Checkpoints steps(comm, storage);
    const RankState one(comm, 1), two(comm, 2), three(comm, 3);
    const PendingSave first = steps.async_save(1, one.state);
    const PendingSave second = steps.async_save(2, two.state);  // waits
    EXPECT_TRUE(first.is_done());
    second.wait();
    barrier(comm, "before the gate closes");
    storage->close();
    const PendingSave third = steps.async_save(3, three.state);
    storage->wait_for_someone();
    const auto refused = capture([&] { steps.async_save(4, one.state, {.when_busy = WhenBusy::refuse}); });
    EXPECT_EQ(refused.fault.code, Code::exists);
    // The writers stand before the gate, and will find that they were given up once it opens.
    barrier(comm, "both were refused");
    std::thread opener([&] { storage->open(); });
    const PendingSave fourth = steps.async_save(4, one.state, {.when_busy = WhenBusy::replace});
    opener.join();
    fourth.wait();
    const auto given_up = capture([&] { third.wait(); });
    if (!given_up) {
      EXPECT_EQ(given_up.fault.code, Code::aborted);
    }
    const std::vector<Step> stand = steps_of(*storage);
    EXPECT_EQ(bool(given_up), std::ranges::find(stand, 3) != stand.end()) << "published, or not there at all";
    expect_saved(comm, steps, 4, 1);
  }));
}

TEST(AsyncSave, FinishPublishesByTheDeadlineOrGivesUpAndKeepsWhatStoodBefore) {
  const auto storage = std::make_shared<Gate>();
  all_well(on_ranks(2, [&](Comm& comm) {
    Checkpoints steps(comm, storage);
    const RankState mine(comm, 1);
    EXPECT_TRUE(steps.finish(Deadline::after(Milliseconds(0)))) << "nothing was under way";
    steps.async_save(1, mine.state);
    EXPECT_TRUE(steps.finish(Deadline::after(Milliseconds::max())));
    EXPECT_EQ(steps.latest(), 1);
    barrier(comm, "before the gate closes");
    storage->close();
    const PendingSave save = steps.async_save(2, mine.state);
    storage->wait_for_someone();
    barrier(comm, "both are held up");
    // The gate opens while the ranks give the save up: nearly always too late for it, but what counts is that all agree.
    std::thread opener([&] { storage->open(); });
    const bool published = steps.finish(Deadline::after(Milliseconds(0)));
    opener.join();
    const auto result = capture([&] { save.wait(); });
    EXPECT_EQ(bool(result), published);
    if (!published) {
      EXPECT_EQ(result.fault.code, Code::aborted);
    }
    EXPECT_EQ(steps.latest(), published ? 2 : 1);
  }));
  EXPECT_THAT(storage->list(""), testing::Each(testing::Field(&DirectoryEntry::name, testing::StartsWith("step-"))));
}

TEST(AsyncSave, LeavingWithoutWaitingFinishesWhatWasBegun) {
  const auto storage = std::make_shared<Gate>();
  all_well(on_ranks(2, [&](Comm& comm) {
    const RankState mine(comm, 1);
    {
      Checkpoints steps(comm, storage, {.keep_last = 1});
      for (const Step step : {1, 2, 3}) steps.async_save(step, mine.state);
    }
    EXPECT_THAT(steps_of(*storage), ElementsAre(3)) << "retention follows each save";
  }));
}

TEST(AsyncSave, ALoneSaveLivesAsLongAsItsHandle) {
  const TemporaryDirectory scratch;
  all_well(on_ranks(2, [&](Comm& comm) {
    const RankState mine(comm, 1);
    async_save(comm, scratch / "c", mine.state);
    RankState loaded(comm, 0);
    load(comm, scratch / "c", loaded.state);
    EXPECT_EQ(loaded.memory, mine.memory);
  }));
}

}  // namespace
}  // namespace tessera
