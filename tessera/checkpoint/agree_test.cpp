// How ranks come to a plan: whichever way, it is the plan that all their descriptions give, and what they disagree on is told as ever.
#include "tessera/checkpoint/agree.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <cstring>

#include "tessera/checkpoint/checkpoints.h"
#include "tessera/checkpoint/head.h"
#include "tessera/checkpoint/load.h"
#include "tessera/checkpoint/on_ranks_test.h"
#include "tessera/layout/random_layouts.h"
#include "tessera/storage/memory_storage.h"
#include "tests/support/counting_comm.h"

namespace tessera {
namespace {

using ::testing::AllOf;
using ::testing::Each;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

// A job's state, told the same to every rank.
struct JobState {
  struct Tensor {
    DType dtype = DType::float32;
    Sizes sizes;
    Layout layout;
    bool known = true;  // the leaf says its layout
  };
  std::map<std::string, Tensor> tensors;
  std::map<std::string, Value> objects;
  std::vector<std::string> rank_local;  // by rank
  int version = 0;                      // what is in the tensors
};

std::byte byte_of(const std::string& key, int64_t element, int64_t byte, int version) {
  return static_cast<std::byte>(element * 31 + byte * 7 + key.back() + version * 101);
}

// A rank's part of it, in memory of its own.
struct RankPart {
  std::deque<std::vector<std::byte>> memory;
  StateDict state;
  RankPart(const JobState& job, int rank, int ranks, bool filled) {
    for (const auto& [key, tensor] : job.tensors) {
      const int64_t each = element_bytes(tensor.dtype);
      TensorLeaf leaf{.dtype = tensor.dtype, .sizes = tensor.sizes};
      if (tensor.known) leaf.layout = tensor.layout;
      for (const Box& box : boxes_of(tensor.layout, tensor.sizes, rank, ranks)) {
        auto& bytes = memory.emplace_back(static_cast<size_t>(volume(box) * each) + 1);
        if (filled) {
          size_t at = 0;
          for (const Sizes& index : elements_of(box)) {
            int64_t element = 0;
            for (size_t d = 0; d < index.size(); ++d) element = element * tensor.sizes[d] + index[d];
            for (int64_t b = 0; b < each; ++b) bytes[at++] = byte_of(key, element, b, job.version);
          }
        }
        leaf.shards.push_back({box, dense_view(bytes.data(), tensor.dtype, box.sizes)});
      }
      state.add(key, std::move(leaf), {"model", key});
    }
    for (const auto& [key, value] : job.objects) state.add(key, filled ? value : Value("before"));
    const auto r = static_cast<size_t>(rank);
    if (r < job.rank_local.size()) state.add("stream", RankLocal{Value(filled ? job.rank_local[r] : "before")});
  }
};

JobState small_job(int ranks) {
  return {.tensors = {{"rows", {DType::float32, {7, 3}, Grid{{{.ranks = ranks, .shard = 0}}}}},
                      {"flat", {DType::int64, {5, 3}, FlatRange{.offset = 4, .shard_numel = (19 + ranks - 1) / ranks}}},
                      {"same", {DType::bfloat16, {4}, Replicated{}}}},
          .objects = {{"step", Value(7)}},
          .rank_local = std::vector<std::string>(static_cast<size_t>(ranks), "stream")};
}

Fault same_fault_of(const std::vector<Outcome<Done>>& outcomes) {
  for (const auto& outcome : outcomes) {
    EXPECT_FALSE(outcome);
    EXPECT_EQ(outcome.fault, outcomes.front().fault);
  }
  return outcomes.front().fault;
}

// What one job's saves of `states`, one after another, came to.
std::vector<Planned> plans_of(int ranks, const std::vector<JobState>& states) {
  std::vector<Planned> planned;
  MemoryStorage storage;
  all_well(on_ranks(ranks, [&](Comm& comm) {
    const auto plans = std::make_shared<PlanCache>();
    for (size_t i = 0; i < states.size(); ++i) {
      const RankPart mine(states[i], comm.rank(), ranks, true);
      const SaveReport report = save(comm, storage, "c" + std::to_string(i), mine.state, {.plans = plans});
      if (comm.rank() == 0) planned.push_back(report.planned);
      RankPart read(states[i], comm.rank(), ranks, false);
      load(comm, storage, "c" + std::to_string(i), read.state);
      EXPECT_EQ(read.memory, mine.memory);
    }
  }));
  return planned;
}

TEST(Agree, APlanIsUsedAgainUntilTheStateLooksDifferent) {
  using enum Planned;
  const JobState first = small_job(3);
  JobState other_values = first;
  other_values.version = 1;
  other_values.objects["step"] = Value(8);
  other_values.rank_local = {"STREAM", "stream", "Stream"};
  JobState other_dtype = other_values;
  other_dtype.tensors["rows"].dtype = DType::float16;
  JobState other_length = other_dtype;
  other_length.rank_local[1] += " that is longer";
  JobState other_object = other_length;
  other_object.objects["step"] = Value(std::string(1000, 's'));
  JobState unknown = other_object;
  unknown.tensors["flat"].known = false;
  JobState other_shape = unknown;
  other_shape.tensors["flat"].sizes = {5, 2};
  EXPECT_THAT(plans_of(3, {first, first, other_values, other_dtype, other_dtype}),
              ::testing::ElementsAre(derived, reused, reused, derived, reused));
  EXPECT_THAT(plans_of(3, {other_dtype, other_length, other_length, other_object}),
              ::testing::ElementsAre(derived, derived, reused, derived))
      << "what two ranks that keep their plan do not say, the leader knows";
  EXPECT_THAT(plans_of(3, {unknown, unknown, other_shape, other_shape}), ::testing::ElementsAre(described, reused, described, reused));
}

TEST(Agree, ACacheThatOneRankLostIsFilledAgain) {
  using enum Planned;
  const JobState job = small_job(3);
  for (const int loser : {0, 1, 2}) {
    MemoryStorage storage;
    all_well(on_ranks(3, [&](Comm& comm) {
      auto plans = std::make_shared<PlanCache>();
      const RankPart mine(job, comm.rank(), 3, true);
      const auto save_as = [&](const std::string& name) { return save(comm, storage, name, mine.state, {.plans = plans}).planned; };
      EXPECT_EQ(save_as("a"), derived);
      if (comm.rank() == loser) plans = std::make_shared<PlanCache>();
      EXPECT_EQ(save_as("b"), loser == 0 ? described : reused) << "what another rank lost, the leader still has";
      EXPECT_EQ(save_as("c"), reused);
      RankPart read(job, comm.rank(), 3, false);
      load(comm, storage, "b", read.state);
      EXPECT_EQ(read.memory, mine.memory);
    }));
  }
}

TEST(Agree, ObjectsThatDifferAreToldWhateverPlanIsKept) {
  const JobState job = small_job(3);
  MemoryStorage storage;
  const auto outcomes = on_ranks(3, [&](Comm& comm) {
    const auto plans = std::make_shared<PlanCache>();
    save(comm, storage, "a", RankPart(job, comm.rank(), 3, true).state, {.plans = plans});
    JobState drifted = job;
    if (comm.rank() == 2) drifted.objects["step"] = Value(8);
    save(comm, storage, "b", RankPart(drifted, comm.rank(), 3, true).state, {.plans = plans});
  });
  const Fault fault = same_fault_of(outcomes);
  EXPECT_EQ(fault.code, Code::mismatch);
  EXPECT_EQ(fault.phase, Phase::plan);
  EXPECT_THAT(fault.what, AllOf(HasSubstr("ranks 0 and 2"), HasSubstr("'step'")));
  EXPECT_FALSE(storage.exists("b"));
}

TEST(Agree, WhatOneRankDescribesOtherwiseIsToldWhateverPlanIsKept) {
  const JobState job = small_job(2);
  MemoryStorage storage;
  const auto outcomes = on_ranks(2, [&](Comm& comm) {
    const auto plans = std::make_shared<PlanCache>();
    save(comm, storage, "a", RankPart(job, comm.rank(), 2, true).state, {.plans = plans});
    JobState retyped = job;
    if (comm.rank() == 1) retyped.tensors["rows"].dtype = DType::float64;
    save(comm, storage, "b", RankPart(retyped, comm.rank(), 2, true).state, {.plans = plans});
  });
  EXPECT_THAT(same_fault_of(outcomes).what, AllOf(HasSubstr("'rows'"), HasSubstr("float32 and float64")));
}

TEST(Agree, WhatNoPlanCanBeIsTheSameErrorWithLayoutsAndWithout) {
  // Two expanded tensors of 2^62 bytes each: no file is as long as both.
  std::byte one[4] = {};
  for (const bool known : {true, false}) {
    MemoryStorage storage;
    const auto outcomes = on_ranks(2, [&](Comm& comm) {
      StateDict state;
      for (const char* key : {"a", "b", "c"}) {
        TensorLeaf leaf = replicated({.data = one, .dtype = DType::float32, .sizes = {int64_t{1} << 60}, .strides = {0}});
        if (!known) leaf.layout.reset();
        state.add(key, std::move(leaf));
      }
      save(comm, storage, "c", state);
    });
    const Fault fault = same_fault_of(outcomes);
    EXPECT_EQ(fault.code, Code::invalid_argument);
    EXPECT_EQ(fault.phase, Phase::plan);
    EXPECT_EQ(fault.rank, 0);
    EXPECT_EQ(fault.same_on, 0);
  }
}

TEST(Agree, ShardsThatAreNotThoseOfTheirLayoutAreToldOnEveryRank) {
  const JobState job = small_job(2);
  MemoryStorage storage;
  const auto outcomes = on_ranks(2, [&](Comm& comm) {
    RankPart mine(job, comm.rank(), 2, true);
    if (comm.rank() == 1) std::get<TensorLeaf>(mine.state.leaves.at("flat").is).shards.clear();
    save(comm, storage, "c", mine.state);
  });
  const Fault fault = same_fault_of(outcomes);
  EXPECT_EQ(fault.code, Code::invalid_argument);
  EXPECT_EQ(fault.rank, 1);
  EXPECT_THAT(fault.what, AllOf(HasSubstr("'flat'"), HasSubstr("rank 1 of 2")));
}

TEST(Agree, EveryRankComparesReplicasOrNoneDoes) {
  const JobState job = small_job(3);
  MemoryStorage storage;
  const auto outcomes = on_ranks(
      3, [&](Comm& comm) { save(comm, storage, "c", RankPart(job, comm.rank(), 3, true).state, {.compare_replicas = comm.rank() == 1}); });
  const Fault fault = same_fault_of(outcomes);
  EXPECT_EQ(fault.code, Code::mismatch);
  EXPECT_THAT(fault.what, HasSubstr("ranks 0 and 1"));
}

TEST(Agree, ReplicasAreComparedThoughAPlanIsKept) {
  const JobState job = small_job(2);
  MemoryStorage storage;
  const auto outcomes = on_ranks(2, [&](Comm& comm) {
    const auto plans = std::make_shared<PlanCache>();
    RankPart mine(job, comm.rank(), 2, true);
    const SaveOptions options{.compare_replicas = true, .plans = plans};
    EXPECT_EQ(save(comm, storage, "a", mine.state, options).planned, Planned::described);
    EXPECT_EQ(save(comm, storage, "b", mine.state, {.plans = plans}).planned, Planned::reused);
    if (comm.rank() == 1) std::get<TensorLeaf>(mine.state.leaves.at("same").is).shards[0].view.data[1] ^= std::byte{1};
    save(comm, storage, "c", mine.state, options);
  });
  EXPECT_THAT(same_fault_of(outcomes).what, AllOf(HasSubstr("ranks 0 and 1"), HasSubstr("'same'")));
}

TEST(Agree, StepsOfARootShareTheirPlanInTheBackgroundAndNot) {
  const JobState job = small_job(3);
  const auto storage = std::make_shared<MemoryStorage>();
  all_well(on_ranks(3, [&](Comm& comm) {
    Checkpoints steps(comm, storage);
    const RankPart mine(job, comm.rank(), 3, true);
    EXPECT_EQ(steps.save(1, mine.state).planned, Planned::derived);
    EXPECT_EQ(steps.async_save(2, mine.state).wait().planned, Planned::reused);
    EXPECT_EQ(steps.save(3, mine.state).planned, Planned::reused);
    BackgroundSaver saver(comm);
    EXPECT_EQ(saver.start(storage, "a", mine.state, {}).wait().planned, Planned::derived);
    EXPECT_EQ(saver.start(storage, "b", mine.state, {}).wait().planned, Planned::reused);
  }));
  const auto id_of = [&](const Path& step) { return decode_head(read_head(*storage, step)).manifest.save_id; };
  EXPECT_NE(id_of("step-00000001"), id_of("step-00000002")) << "a plan that is used again is another save";
  for (const Step step : {1, 2, 3}) EXPECT_THAT(verify(storage, step_name(step)).damage, IsEmpty());
}

// A job whose state changes at random, on all ranks or on one, and whose ranks lose their caches at random.
RC_GTEST_PROP(Agree, AnyRowOfSavesHasThePlansThatDescriptionsGive, ()) {
  const int ranks = *uniform<int>(1, 5);
  const int saves = *uniform<int>(2, 6);
  std::vector<JobState> states = {small_job(ranks)};
  std::vector<int> loses;  // a rank, or none
  for (int i = 0; i < saves; ++i) {
    JobState next = states.back();
    ++next.version;
    const Sizes sizes = *any_sizes();
    switch (*uniform<int>(0, 8)) {
      case 0: next.tensors["extra"] = {static_cast<DType>(*uniform<int>(0, 8)), sizes, (*any_spread(sizes, ranks)).layout}; break;
      case 1: next.tensors.erase("extra"); break;
      case 2: next.tensors["rows"].dtype = static_cast<DType>(*uniform<int>(0, 8)); break;
      case 3: next.objects["step"] = Value(std::string(*uniform<size_t>(0, 300), 'x')); break;
      case 4: next.rank_local.at(*uniform<size_t>(0, next.rank_local.size())) += std::string(200, 'y'); break;
      case 5: next.tensors["same"].known = !next.tensors["same"].known; break;
      default: break;
    }
    states.push_back(next);
    loses.push_back(*uniform<int>(-2 * ranks, ranks));
  }
  const auto storage = std::make_shared<MemoryStorage>();
  std::vector<std::vector<Description>> described(states.size(), std::vector<Description>(static_cast<size_t>(ranks)));
  const auto outcomes = on_ranks(ranks, [&](Comm& comm) {
    auto plans = std::make_shared<PlanCache>();
    for (size_t i = 0; i < states.size(); ++i) {
      if (i > 0 && loses[i - 1] == comm.rank()) plans = std::make_shared<PlanCache>();
      const RankPart mine(states[i], comm.rank(), ranks, true);
      described[i][static_cast<size_t>(comm.rank())] = describe(mine.state, comm.rank(), ranks).description;
      const Path step = "c" + std::to_string(i);
      save(comm, *storage, step, mine.state, {.plans = plans});
      RankPart read(states[i], comm.rank(), ranks, false);
      load(comm, *storage, step, read.state);
      if (read.memory != mine.memory) throw Error({.code = Code::mismatch, .what = step + " holds something else"});
    }
  });
  for (const auto& outcome : outcomes) RC_ASSERT(bool(outcome));
  for (size_t i = 0; i < states.size(); ++i) {
    const Manifest manifest = decode_head(read_head(*storage, "c" + std::to_string(i))).manifest;
    RC_ASSERT(manifest == plan_save(described[i], manifest.save_id).manifest);
  }
}

// The 256 ranks. What a step costs them in words, once the plan is known.
TEST(Agree, InTheSteadyStateARankSaysADigestAndASmallProof) {
  constexpr int ranks = 256;
  constexpr int tensors = 32;
  JobState job{.rank_local = std::vector<std::string>(ranks, "stream")};
  for (int t = 0; t < tensors; ++t)
    job.tensors["layers." + std::to_string(t) + ".weight"] = {DType::float32, {ranks, 4}, Grid{{{ranks, 0}}}};
  job.tensors["bias"] = {DType::float32, {16}, Replicated{}};
  job.objects["step"] = Value(7);
  const auto storage = std::make_shared<MemoryStorage>();
  std::vector<std::map<std::string, CountingComm::Count>> cold(ranks), steady(ranks);
  double seconds = 0;
  all_well(on_ranks(ranks, [&](Comm& job_comm) {
    CountingComm comm(job_comm);
    const auto plans = std::make_shared<PlanCache>();
    const RankPart mine(job, comm.rank(), ranks, true);
    const auto r = static_cast<size_t>(comm.rank());
    EXPECT_EQ(save(comm, *storage, "cold", mine.state, {.plans = plans}).planned, Planned::derived);
    cold[r] = std::exchange(comm.counts, {});
    const SaveReport report = save(comm, *storage, "steady", mine.state, {.plans = plans});
    EXPECT_EQ(report.planned, Planned::reused);
    steady[r] = comm.counts;
    if (r == 0) seconds = report.seconds;
  }));
  const auto print = [](const char* what, const std::map<std::string, CountingComm::Count>& counts) {
    for (const auto& [purpose, count] : counts) {
      std::printf("%s, %s: %lld round(s), %lld bytes said, %lld answered\n", what, purpose.c_str(), static_cast<long long>(count.rounds),
                  static_cast<long long>(count.sent_bytes), static_cast<long long>(count.answered_bytes));
    }
  };
  print("first save, rank 255", cold.back());
  print("steady state, rank 255", steady.back());
  std::printf("steady state: a save of %d ranks as threads took %.0f ms in all\n", ranks, seconds * 1e3);
  for (const auto& counts : steady) {
    EXPECT_EQ(counts.at("plan").rounds, 1);
    EXPECT_LE(counts.at("plan").sent_bytes, 64) << "three digests";
    EXPECT_LE(counts.at("plan").answered_bytes, 96) << "a digest and the save's name";
    // Per MiB of its file 16 bytes, which the sidecar needs; here one block.
    EXPECT_LE(counts.at("write").sent_bytes, 80) << "a digest of what was to be written, and one for the block of the file";
    EXPECT_LE(counts.at("write").answered_bytes, 1);
    EXPECT_LE(counts.at("publish").sent_bytes, 1);
  }
}

}  // namespace
}  // namespace tessera
