// The verbs on ranks that are threads, over storage in memory: what a user of save and load may rely on.
#include "tessera/checkpoint/checkpoint.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <numeric>

#include "tessera/checkpoint/checkpoints.h"
#include "tessera/checkpoint/on_ranks_test.h"
#include "tessera/checkpoint/publish.h"
#include "tessera/format/dcp.h"
#include "tessera/storage/memory_storage.h"

namespace tessera {
namespace {

using ::testing::DoubleNear;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

// The one fault that all ranks threw.
Fault one_fault(const std::vector<Outcome<Done>>& outcomes) {
  for (const auto& outcome : outcomes) {
    EXPECT_FALSE(outcome);
    EXPECT_EQ(outcome.fault, outcomes.front().fault);
  }
  return outcomes.front().fault;
}

// A tensor of `rows` × 4, split by rows, and an object.
struct RankState {
  std::vector<float> memory;
  StateDict state;
  RankState(const Comm& comm, int64_t rows, float offset, Value object = Value("same")) {
    const int64_t begin = rows * comm.rank() / comm.size();
    const int64_t end = rows * (comm.rank() + 1) / comm.size();
    memory.resize(static_cast<size_t>((end - begin) * 4));
    std::iota(memory.begin(), memory.end(), offset + static_cast<float>(begin * 4));
    const Box box{{begin, 0}, {end - begin, 4}};
    state.add(
        "w",
        TensorLeaf{DType::float32, {rows, 4}, {{box, dense_view(reinterpret_cast<std::byte*>(memory.data()), DType::float32, box.sizes)}}});
    state.add("object", std::move(object));
  }
};

TEST(Checkpoint, OpensTheKeysThatAreAskedForAndNoOthers) {
  const auto storage = std::make_shared<MemoryStorage>();
  all_well(on_ranks(2, [&](Comm& comm) { save(comm, *storage, "c", RankState(comm, 7, 100).state); }));
  const Checkpoint whole = Checkpoint::open(storage, "c");
  const Checkpoint one = Checkpoint::open(storage, "c", {.keys = {"w"}});
  EXPECT_THAT(one.keys(), ElementsAre("w"));
  EXPECT_EQ(one.tensor("w"), whole.tensor("w"));
  std::vector<float> memory(28);
  one.read("w", {{0, 0}, {7, 4}}, dense_view(reinterpret_cast<std::byte*>(memory.data()), DType::float32, {7, 4}));
  EXPECT_EQ(memory.front(), 100);
  EXPECT_EQ(memory.back(), 127);
  EXPECT_EQ(Checkpoint::open(storage, "c", {.keys = {"object"}}).object("object"), Value("same"));
  EXPECT_THAT(Checkpoint::open(storage, "c", {.keys = {"object", "w", "w"}}).keys(), ElementsAre("object", "w"));
  const Fault fault = capture([&] { Checkpoint::open(storage, "c", {.keys = {"w", "v"}}); }).fault;
  EXPECT_EQ(fault.code, Code::not_found);
  EXPECT_THAT(fault.what, HasSubstr("'v'"));
}

TEST(SaveAndLoad, AnyRanksLoadWhatAnySavedAndTheReportSaysWhatWasRead) {
  for (int from = 1; from <= 4; ++from) {
    MemoryStorage storage;
    all_well(on_ranks(from, [&](Comm& comm) {
      const RankState mine(comm, 7, 100);
      const SaveReport report = save(comm, storage, "c", mine.state);
      EXPECT_THAT(report.save_id, SizeIs(32));
      EXPECT_GT(report.total_bytes, 7 * 4 * 4);
    }));
    EXPECT_THAT(storage.list(""), SizeIs(1)) << "only the checkpoint is left";
    for (int to = 1; to <= 4; ++to) {
      all_well(on_ranks(to, [&](Comm& comm) {
        RankState mine(comm, 7, 0, Value("other"));
        const LoadReport report = load(comm, storage, "c", mine.state);
        EXPECT_EQ(mine.memory, RankState(comm, 7, 100).memory);
        EXPECT_EQ(*mine.state.object("object"), Value("same"));
        EXPECT_EQ(report.read_bytes, 7 * 4 * 4);
        if (from == to) {
          EXPECT_EQ(report.unverified_bytes, 0);
        }
        EXPECT_THAT(report.missing, IsEmpty());
        EXPECT_THAT(report.unexpected, IsEmpty());
      }));
    }
  }
}

// What every rank holds is written by all of them together, each some rows of it.
TEST(SaveAndLoad, ALargeReplicaIsWrittenByAllWhoHoldIt) {
  constexpr int64_t rows = 5003, columns = 1701;  // 32.5 MiB
  // Column-major: no part of it is one run of memory.
  const auto transposed = [](std::vector<float>& memory) {
    memory.resize(rows * columns);
    return View{reinterpret_cast<std::byte*>(memory.data()), DType::float32, {rows, columns}, {1, rows}};
  };
  MemoryStorage storage;
  std::vector<float> saved(rows * columns);
  std::iota(saved.begin(), saved.end(), 1.0f);
  all_well(on_ranks(2, [&](Comm& comm) {
    std::vector<float> memory = saved;
    StateDict state;
    state.add("w", TensorLeaf{DType::float32, {rows, columns}, {{whole(Sizes{rows, columns}), transposed(memory)}}, Replicated{}});
    save(comm, storage, "c", state, {.compare_replicas = true});
  }));
  for (const char* file : {"c/__0_0.distcp", "c/__1_0.distcp"})
    EXPECT_THAT(static_cast<double>(storage.open(file)->size_bytes()), DoubleNear(rows * columns * 2, 8192)) << file;
  for (const int ranks : {1, 3}) {
    all_well(on_ranks(ranks, [&](Comm& comm) {
      std::vector<float> memory;
      StateDict state;
      state.add("w", TensorLeaf{DType::float32, {rows, columns}, {{whole(Sizes{rows, columns}), transposed(memory)}}});
      const LoadReport report = load(comm, storage, "c", state);
      EXPECT_TRUE(memory == saved);
      EXPECT_EQ(report.read_bytes, ranks * rows * columns * 4);
    }));
  }
}

TEST(SaveAndLoad, AFullTargetIsRefusedUnlessItIsToBeReplaced) {
  MemoryStorage storage;
  const auto save_with = [&](float offset, SaveOptions options) {
    return on_ranks(2, [&](Comm& comm) { save(comm, storage, "c", RankState(comm, 4, offset).state, options); });
  };
  all_well(save_with(1, {}));
  const Fault fault = one_fault(save_with(2, {}));
  EXPECT_EQ(fault.code, Code::exists);
  EXPECT_THAT(storage.list(""), SizeIs(1)) << "nothing is left of the refused save";
  all_well(save_with(3, {.replace = Replace::exchange}));
  all_well(on_ranks(1, [&](Comm& comm) {
    RankState mine(comm, 4, 0);
    load(comm, storage, "c", mine.state);
    EXPECT_EQ(mine.memory.front(), 3);
  }));
}

TEST(SaveAndLoad, RanksThatDisagreeAreToldSoAndTheCommGoesOn) {
  MemoryStorage storage;
  all_well(on_ranks(3, [&](Comm& comm) {
    const auto failed = capture([&] { save(comm, storage, "c", RankState(comm, 4, 0, Value(comm.rank())).state); });
    EXPECT_EQ(failed.fault.code, Code::mismatch);
    EXPECT_THAT(failed.fault.what, HasSubstr("'object'"));
    EXPECT_EQ(failed.fault.phase, Phase::plan);
    save(comm, storage, "c", RankState(comm, 4, 0).state);  // a failed save breaks nothing
  }));
}

TEST(SaveAndLoad, NothingIsWrittenThroughUntilEveryRankHasFoundAllWell) {
  MemoryStorage storage;
  all_well(on_ranks(2, [&](Comm& comm) { save(comm, storage, "c", RankState(comm, 4, 100).state); }));
  const auto outcomes = on_ranks(3, [&](Comm& comm) {
    RankState mine(comm, 4, 0);
    const std::vector<float> before = mine.memory;
    if (comm.rank() == 2) mine.state.add("more", Value(1));
    const auto failed = capture([&] { load(comm, storage, "c", mine.state); });
    EXPECT_EQ(mine.memory, before);
    if (!failed) throw Error(failed.fault);
  });
  const Fault fault = one_fault(outcomes);
  EXPECT_EQ(fault.code, Code::not_found);
  EXPECT_EQ(fault.rank, 2);
  EXPECT_THAT(fault.what, HasSubstr("'more'"));
}

TEST(SaveAndLoad, TheReportIsTheUnionOfWhatRanksFound) {
  MemoryStorage storage;
  all_well(on_ranks(2, [&](Comm& comm) {
    RankState mine(comm, 4, 100);
    mine.state.add("extra", Value(5));
    save(comm, storage, "c", mine.state);
  }));
  all_well(on_ranks(2, [&](Comm& comm) {
    RankState mine(comm, 4, 0);
    if (comm.rank() == 1) mine.state.add("more", Value(1));
    const LoadReport report = load(comm, storage, "c", mine.state, {.allow_missing = true});
    EXPECT_THAT(report.missing, ElementsAre("more"));
    EXPECT_THAT(report.unexpected, ElementsAre("extra"));
  }));
}

TEST(SaveAndLoad, RankLocalValuesComeBackToTheirRankOrStartAfresh) {
  MemoryStorage storage;
  const auto with_local = [](const Comm& comm, int value, bool may_reset) {
    RankState mine(comm, 4, 0);
    mine.state.add("stream", RankLocal{Value(value), may_reset});
    return mine;
  };
  all_well(on_ranks(2, [&](Comm& comm) { save(comm, storage, "c", with_local(comm, 10 + comm.rank(), false).state); }));
  all_well(on_ranks(2, [&](Comm& comm) {
    RankState mine = with_local(comm, 0, false);
    load(comm, storage, "c", mine.state);
    EXPECT_EQ(std::get<RankLocal>(mine.state.leaves.at("stream").is).value, Value(10 + comm.rank()));
  }));
  EXPECT_EQ(one_fault(on_ranks(3,
                               [&](Comm& comm) {
                                 RankState mine = with_local(comm, 0, false);
                                 load(comm, storage, "c", mine.state);
                               }))
                .code,
            Code::mismatch);
  all_well(on_ranks(3, [&](Comm& comm) {
    RankState mine = with_local(comm, 5, true);
    EXPECT_THAT(load(comm, storage, "c", mine.state).reset, ElementsAre("stream"));
    EXPECT_EQ(std::get<RankLocal>(mine.state.leaves.at("stream").is).value, Value());
  }));
}

TEST(SaveAndLoad, AnotherDTypeIsConvertedOnlyWhenAllowed) {
  MemoryStorage storage;
  all_well(on_ranks(2, [&](Comm& comm) { save(comm, storage, "c", RankState(comm, 4, 100).state); }));
  all_well(on_ranks(1, [&](Comm& comm) {
    std::vector<double> wide(16);
    StateDict state;
    state.add("w", replicated(dense_view(reinterpret_cast<std::byte*>(wide.data()), DType::float64, {4, 4})));
    EXPECT_EQ(capture([&] { load(comm, storage, "c", state); }).fault.code, Code::mismatch);
    EXPECT_THAT(load(comm, storage, "c", state, {.allow_cast = true}).cast, ElementsAre("w"));
    EXPECT_EQ(wide[15], 115.0);
  }));
}

TEST(Publish, AProofThatDiffersFromThePlanPublishesNothing) {
  MemoryStorage storage;
  all_well(on_ranks(1, [&](Comm& comm) {
    const RankState mine(comm, 4, 0);
    const Described described = describe(mine.state, 0, 1);
    const SavePlan plan = plan_save({described.description}, "id");
    const Path staging = storage.stage("c", "id");
    const Proof good = write_shards(plan.ranks[0], described, storage, staging);
    Proof short_file = good;
    short_file.length_bytes -= 1;
    Proof few_blocks = good;
    few_blocks.blocks.pop_back();
    Proof other_file = good;
    other_file.file = "__9_0.distcp";
    for (const Proof& bad : {short_file, few_blocks, other_file}) {
      EXPECT_EQ(capture([&] { publish(plan, {bad}, {}, storage, staging, "c", Replace::never); }).fault.code, Code::corrupt);
      EXPECT_FALSE(storage.exists("c"));
    }
    publish(plan, {good}, {}, storage, staging, "c", Replace::never);
    EXPECT_TRUE(storage.exists("c/.metadata"));
  }));
}

TEST(Checkpoints, KeepsTheNewestAndRemovesOthersOnlyAfterANewOneStands) {
  const auto storage = std::make_shared<MemoryStorage>();
  all_well(on_ranks(2, [&](Comm& comm) {
    Checkpoints steps(comm, storage, {.keep_last = 2});
    EXPECT_EQ(steps.latest(), std::nullopt);
    for (Step step = 1; step <= 4; ++step) steps.save(step * 10, RankState(comm, 4, static_cast<float>(step)).state);
    EXPECT_EQ(steps.latest(), 40);
  }));
  EXPECT_THAT(steps_of(*storage), ElementsAre(30, 40));
}

TEST(Checkpoints, ADamagedLatestStepIsPassedOverByName) {
  const auto storage = std::make_shared<MemoryStorage>();
  all_well(on_ranks(2, [&](Comm& comm) {
    Checkpoints steps(comm, storage);
    for (const Step step : {1, 2}) steps.save(step, RankState(comm, 4, 0).state);
    if (comm.rank() == 0) {
      // A step whose files are not there: its metadata alone.
      const auto source = storage->open("step-00000002/.metadata");
      Bytes metadata(static_cast<size_t>(source->size_bytes()));
      source->read(0, metadata);
      const Path staging = storage->stage("step-00000003", "x");
      const auto file = storage->create(staging + "/.metadata");
      file->write(0, metadata);
      file->close();
      storage->commit(staging, "step-00000003", ".metadata", Replace::never);
    }
    barrier(comm, "damage");
    EXPECT_EQ(steps.latest(), 2);
    ASSERT_THAT(steps.skipped(), SizeIs(1));
    EXPECT_THAT(steps.skipped().front(), HasSubstr("step-00000003"));
  }));
}

TEST(Catalog, KnowsStepsAndNothingElse) {
  EXPECT_EQ(step_name(12), "step-00000012");
  EXPECT_EQ(step_named(step_name(123'456'789)), 123'456'789);
  for (const char* name : {"step-12", "step-000000012", ".tessera-step-00000012", "step-0000001x", "step--0000001", "step-", "other"}) {
    EXPECT_EQ(step_named(name), std::nullopt) << name;
  }
}

TEST(Checkpoint, ReadsOneBoxAndOneObjectWithoutRanks) {
  const auto storage = std::make_shared<MemoryStorage>();
  all_well(on_ranks(3, [&](Comm& comm) { save(comm, *storage, "c", RankState(comm, 7, 0).state); }));
  const Checkpoint checkpoint = Checkpoint::open(storage, "c");
  std::vector<float> column(5);
  checkpoint.read("w", {{1, 2}, {5, 1}}, dense_view(reinterpret_cast<std::byte*>(column.data()), DType::float32, {5, 1}));
  EXPECT_THAT(column, ElementsAre(6, 10, 14, 18, 22));
  EXPECT_EQ(checkpoint.object("object"), Value("same"));
  EXPECT_EQ(capture([&] { return checkpoint.object("w"); }).fault.code, Code::not_found);
  EXPECT_EQ(capture([&] { checkpoint.read("w", {{6, 0}, {2, 4}}, dense_view(nullptr, DType::float32, {2, 4})); }).fault.code,
            Code::invalid_argument);
  EXPECT_EQ(capture([&] { Checkpoint::open(storage, ""); }).fault.code, Code::not_found);
}

}  // namespace
}  // namespace tessera
