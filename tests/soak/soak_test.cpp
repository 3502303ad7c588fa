// Three hundred saves in the background on a file system of which one operation in a hundred fails: every acknowledged step is there and
// whole, and neither memory nor descriptors grow. TESSERA_SOAK_MIB sets the size of the state, of which the smaller budget holds four
// fifths.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <malloc.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <set>

#include "tessera/checkpoint/checkpoints.h"
#include "tessera/comm/on_every_rank.h"
#include "tessera/comm/thread_comm.h"
#include "tessera/storage/local_storage.h"
#include "tests/support/fault_disk.h"
#include "tests/support/run_as_ranks.h"
#include "tests/support/seed.h"
#include "tests/support/temporary_directory.h"

namespace tessera {
namespace {

constexpr int ranks = 2;
constexpr int64_t saves = 300;
constexpr int64_t mib = int64_t{1} << 20;

int64_t state_mib() {
  const char* const given = std::getenv("TESSERA_SOAK_MIB");
  return given ? std::max(10L, std::strtol(given, nullptr, 10)) : 10;
}

// What free() keeps for the next malloc() is handed back first: it comes and goes with the order of the threads.
int64_t resident_bytes() {
  ::malloc_trim(0);
  int64_t pages = 0;
  int64_t resident = 0;
  std::ifstream("/proc/self/statm") >> pages >> resident;
  return resident * ::sysconf(_SC_PAGESIZE);
}

int64_t descriptors() {
  int64_t count = 0;
  for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) count += !entry.path().empty();
  return count;
}

// A tensor of which every element says which step it is of.
struct State {
  std::vector<int64_t> memory;
  StateDict state;
  State(const Comm& comm, int64_t bytes) : memory(static_cast<size_t>(bytes / 8)) {
    const auto rows = static_cast<int64_t>(memory.size());
    const Box box{{rows * comm.rank()}, {rows}};
    state.add("w", TensorLeaf{DType::int64,
                              {rows * comm.size()},
                              {{box, dense_view(reinterpret_cast<std::byte*>(memory.data()), DType::int64, box.sizes)}}});
  }
  void be(Step step) {
    for (size_t i = 0; i < memory.size(); ++i) memory[i] = step * 1'000'003 + static_cast<int64_t>(i);
  }
  bool is(Step step) const {
    for (size_t i = 0; i < memory.size(); ++i) {
      if (memory[i] != step * 1'000'003 + static_cast<int64_t>(i)) return false;
    }
    return true;
  }
};

struct Tally {
  int64_t acknowledged = 0;
  int64_t failed = 0;
  int64_t in_waves = 0;
  int64_t lost = 0;
  int64_t most_staged_bytes = 0;
};

Tally soak(const std::string& root, int64_t budget_bytes, uint64_t seed) {
  FaultDisk disk(posix());
  std::mt19937_64 random(seed);  // drawn from under the disk's own lock
  std::atomic<bool> fails = true;
  const std::vector<int> errnos{EIO, ENOSPC, EDQUOT, EACCES, ESTALE, ENOMEM};
  for (const int os_errno : errnos) {
    disk.add({.trouble = {.os_errno = os_errno}, .for_ever = true, .about = [&](const Operation& operation) {
                return fails && operation.call != Call::close && random() % (100 * errnos.size()) == 0;
              }});
  }
  const auto storage = std::make_shared<LocalStorage>(root, disk);
  Tally tally;
  auto comms = thread_comms(ranks);
  const auto outcomes = run_as_ranks(comms, [&](Comm& comm) {
    const bool talks = comm.rank() == 0;
    const int64_t rank_bytes = state_mib() * mib / ranks;
    State mine(comm, rank_bytes);
    State back(comm, rank_bytes);
    Checkpoints steps(comm, storage, {.keep_last = 3, .staging_bytes = budget_bytes});
    Step acknowledged = -1;
    int64_t resident_early = 0;
    int64_t descriptors_early = 0;
    std::optional<PendingSave> pending;
    const auto conclude = [&](Step step) {
      const auto report = capture([&] { return pending->wait(); });
      pending.reset();
      if (report) acknowledged = step;
      if (!talks) return;
      report ? ++tally.acknowledged : ++tally.failed;
      if (!report) return;
      tally.in_waves += report.value->in_waves;
      tally.most_staged_bytes = std::max(tally.most_staged_bytes, report.value->peak_staging_bytes);
    };
    for (Step step = 1; step <= saves; ++step) {
      if (pending) conclude(step - 1);
      mine.be(step);
      pending = steps.async_save(step, mine.state);
      pending->wait_staged();
      if (step % 30 != 0) continue;
      // Looking is done without faults: it is the saves that are on trial.
      conclude(step);
      barrier(comm, "faults off");
      fails = false;
      barrier(comm, "look");
      const auto latest = steps.latest(Depth::every_byte);
      const bool there = !latest ? acknowledged < 0 : *latest >= acknowledged && steps.skipped().empty();
      if (latest) steps.load(*latest, back.state);
      const bool lost = !there || (latest && !back.is(*latest));
      const auto all = on_every_rank_bytes(comm, Phase::check, [&] { return Bytes{std::byte{lost}}; });
      if (talks) {
        for (const Bytes& one : all) tally.lost += one.front() != std::byte{0};
        disk.forget();
        if (step == 60) {
          resident_early = resident_bytes();
          descriptors_early = descriptors();
        }
      }
      barrier(comm, "faults on");
      fails = true;
      barrier(comm, "go on");
    }
    if (talks) {
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)  // which keep what was freed
      EXPECT_LE(resident_bytes() - resident_early, 4 * mib) << "memory grows";
#endif
      EXPECT_LE(descriptors(), descriptors_early) << "descriptors leak";
    }
  });
  for (const auto& outcome : outcomes) EXPECT_TRUE(bool(outcome)) << describe(outcome.fault);
  return tally;
}

TEST(Soak, NothingIsLostAndNothingGrows) {
  const uint64_t seed = seed_of_this_run();
  const int64_t smaller = state_mib() * mib / ranks * 4 / 5;
  for (const int64_t budget : {smaller, int64_t{0}}) {
    const TemporaryDirectory scratch;
    const Tally tally = soak(scratch / "runs", budget, seed);
    std::printf(
        "soak: state %lld MiB, budget %lld MiB a rank: %lld acknowledged, %lld failed, %lld in waves, peak staging %lld KiB a rank; %lld "
        "lost\n",
        static_cast<long long>(state_mib()), static_cast<long long>(budget / mib), static_cast<long long>(tally.acknowledged),
        static_cast<long long>(tally.failed), static_cast<long long>(tally.in_waves), static_cast<long long>(tally.most_staged_bytes >> 10),
        static_cast<long long>(tally.lost));
    EXPECT_EQ(tally.acknowledged + tally.failed, saves);
    EXPECT_GT(tally.acknowledged, saves / 10);
    EXPECT_GT(tally.failed, 0) << "no fault was hit";
    EXPECT_EQ(tally.lost, 0);
    if (budget > 0) {
      EXPECT_LE(tally.most_staged_bytes, budget);
      EXPECT_EQ(tally.in_waves, tally.acknowledged) << "the state is larger than the budget";
    }
  }
}

}  // namespace
}  // namespace tessera
