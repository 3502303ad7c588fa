// Any state, saved by N ranks that hold it in any way, is loaded by M ranks in any other, bit for bit, with storage that fails in between
// or not. TESSERA_SEED=n tries that one mesh; TESSERA_SCALE=k tries k times as many.
#include <gtest/gtest.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <set>

#include "tessera/checkpoint/load.h"
#include "tessera/checkpoint/save.h"
#include "tessera/comm/thread_comm.h"
#include "tessera/storage/memory_storage.h"
#include "tests/property/mesh.h"
#include "tests/support/run_as_ranks.h"
#include "tests/support/seed.h"
#include "tests/support/sim_comm.h"
#include "tests/support/sim_storage.h"

namespace tessera {
namespace {

// Under TSan the threads are what is to be seen.
#if defined(__SANITIZE_THREAD__)
constexpr int64_t threads_one_in = 2;
#else
constexpr int64_t threads_one_in = 32;
#endif
constexpr int most_ranks = 9;

using Outcomes = std::vector<Outcome<Done>>;
using Body = std::function<void(Comm&, Storage&)>;

// Ranks that are threads, on storage that never fails.
Outcomes on_threads(int ranks, const std::shared_ptr<MemoryStorage>& disk, const Body& body) {
  auto comms = thread_comms(ranks);
  return run_as_ranks(comms, [&](Comm& comm) { body(comm, *disk); });
}

// Simulated ranks; the storage of one of them may have a trouble.
struct Trouble {
  int rank = -1;
  StorageTrouble what = {};
};
Outcomes on_simulated(uint64_t seed, int ranks, const std::shared_ptr<MemoryStorage>& disk, const Trouble& trouble, const Body& body) {
  SimWorld world(seed);
  SimJob job(world, "job", ranks);
  Outcomes outcomes(static_cast<size_t>(ranks), {std::nullopt, {.what = "it never ended"}});
  job.start(world.now(), [&](Comm& comm, SimProcess& process) {
    SimStorage storage(process, disk, comm.rank() == trouble.rank ? std::vector{trouble.what} : std::vector<StorageTrouble>{});
    outcomes[static_cast<size_t>(comm.rank())] = capture([&] { body(comm, storage); });
  });
  EXPECT_TRUE(world.run_until_quiet(std::chrono::hours(1)));
  return outcomes;
}

Trouble any_trouble(SeededRandom& random, int ranks) {
  constexpr std::array errnos = {EIO, ENOSPC, EACCES, ENOMEM, ESTALE};
  return {.rank = static_cast<int>(random.in(0, ranks)),
          .what = {.operation = random.in(0, 12), .for_ever = random.chance(3), .os_errno = random.one_of(errnos)}};
}

// True if all went well on every rank, false if the same fault is on every rank.
bool all_well(const Outcomes& outcomes) {
  for (const auto& outcome : outcomes) {
    EXPECT_EQ(bool(outcome), bool(outcomes.front()));
    EXPECT_EQ(outcome.fault, outcomes.front().fault) << describe(outcome.fault);
  }
  return bool(outcomes.front());
}

struct Counts {
  int well = 0;
  int failed_saves = 0;
  int failed_loads = 0;
};

std::deque<MeshRank> ranks_of(SeededRandom& random, const MeshState& truth, const Spread& spread, int ranks, bool filled) {
  std::deque<MeshRank> all;
  for (int r = 0; r < ranks; ++r) all.emplace_back(random, truth, spread, r, filled);
  return all;
}

std::vector<std::string> keys_nobody_wants(const MeshState& truth, const std::deque<MeshRank>& ranks) {
  std::set<std::string> keys;
  for (const auto& [key, tensor] : truth.tensors) keys.insert(key);
  for (const MeshRank& rank : ranks) {
    for (const auto& [key, leaf] : rank.state.leaves) keys.erase(key);
  }
  return {keys.begin(), keys.end()};
}

void try_mesh(uint64_t seed, Counts& counts) {
  SCOPED_TRACE("TESSERA_SEED=" + std::to_string(seed));
  SeededRandom random(seed);
  const int from = static_cast<int>(random.in(1, most_ranks));
  const int to = static_cast<int>(random.in(1, most_ranks));
  const bool threads = random.chance(threads_one_in);
  const bool troubled = !threads && random.chance(2);
  const MeshState truth = any_mesh_state(random);
  const auto savers = ranks_of(random, truth, any_tiling(random, truth, from), from, true);
  auto loaders = ranks_of(random, truth, any_wish(random, truth, to), to, false);
  const auto disk = std::make_shared<MemoryStorage>();
  const auto run = [&](int ranks, const Trouble& trouble, const Body& body) {
    return all_well(threads ? on_threads(ranks, disk, body) : on_simulated(seed, ranks, disk, trouble, body));
  };

  // Simulated ranks are fibers of one thread. Others have helpers, two at times.
  const IoOptions io{.threads = threads ? static_cast<int>(seed % 3) + 1 : 1};
  const auto save_all = [&](Comm& comm, Storage& storage) {
    save(comm, storage, "c", savers[static_cast<size_t>(comm.rank())].state, {.io = io});
  };
  const bool saved = troubled && run(from, any_trouble(random, from), save_all);
  if (!saved) {
    counts.failed_saves += troubled;
    EXPECT_FALSE(disk->exists("c")) << "a failed save left something";
    EXPECT_TRUE(run(from, {}, save_all));
  }
  const auto unexpected = keys_nobody_wants(truth, loaders);
  const auto load_all = [&](Comm& comm, Storage& storage) {
    const LoadReport report = load(comm, storage, "c", loaders[static_cast<size_t>(comm.rank())].state, {.io = io});
    EXPECT_EQ(report.unexpected, unexpected);
  };
  const bool loaded = troubled && run(to, any_trouble(random, to), load_all);
  if (!loaded) {
    counts.failed_loads += troubled;
    EXPECT_TRUE(run(to, {}, load_all));
  }
  bool exact = true;
  for (const MeshRank& rank : loaders) {
    const std::string differs = rank.differs_from(truth, from == to);
    EXPECT_EQ(differs, "");
    exact &= differs.empty();
  }
  for (const MeshRank& rank : savers) EXPECT_EQ(rank.differs_from(truth, true), "") << "saving changed what was saved";
  counts.well += exact;
}

TEST(Meshes, WhateverNRanksSaveAnyMRanksLoadBitForBit) {
  const char* const one = std::getenv("TESSERA_SEED");
  const uint64_t first = one ? std::strtoull(one, nullptr, 10) : 1;
  const uint64_t count = one ? 1 : static_cast<uint64_t>(scaled(10'000));
  Counts counts;
  for (uint64_t seed = first; seed < first + count && !HasFailure(); ++seed) try_mesh(seed, counts);
  std::printf("meshes: %d bit-exact, seeds %llu to %llu, %d saves and %d loads failed first\n", counts.well,
              static_cast<unsigned long long>(first), static_cast<unsigned long long>(first + count - 1), counts.failed_saves,
              counts.failed_loads);
}

}  // namespace
}  // namespace tessera
