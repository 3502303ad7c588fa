#include "tessera/plan/layout_table.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <array>

#include "tessera/layout/random_layouts.h"

namespace tessera {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

std::byte some_memory;

// This rank's part of a tensor; nobody reads it.
TensorLeaf leaf_of(Sizes sizes, const Layout& layout, int rank, int ranks, DType dtype = DType::float32) {
  TensorLeaf leaf{.dtype = dtype, .sizes = sizes, .layout = layout};
  for (const Box& box : boxes_of(layout, sizes, rank, ranks)) leaf.shards.push_back({box, dense_view(&some_memory, dtype, box.sizes)});
  return leaf;
}

struct Job {
  int ranks = 1;
  std::map<std::string, std::pair<Sizes, Layout>> tensors;
  StateDict state(int rank) const {
    StateDict state;
    for (const auto& [key, tensor] : tensors) state.add(key, leaf_of(tensor.first, tensor.second, rank, ranks), {"model", key});
    state.add("step", Value(7));
    state.add("stream", RankLocal{Value(std::string(static_cast<size_t>(rank), 'r'))});
    return state;
  }
};

RC_GTEST_PROP(LayoutTable, OfOneRankTellsWhatEveryRankDescribes, ()) {
  Job job{.ranks = *uniform<int>(1, 6), .tensors = {}};
  for (int64_t n = *uniform<int64_t>(0, 4); n > 0; --n) {
    const Sizes sizes = *any_sizes();
    job.tensors["w" + std::to_string(n)] = {sizes, (*any_spread(sizes, job.ranks)).layout};
  }
  std::optional<LayoutTable> first;
  for (int r = 0; r < job.ranks; ++r) {
    const StateDict state = job.state(r);
    const Described mine = describe(state, r, job.ranks);
    const std::optional<LayoutTable> table = layout_table(mine, job.ranks);
    RC_ASSERT(table.has_value());
    if (!first) first = table;
    RC_ASSERT(*table == *first);
    RC_ASSERT(digest_of(*table) == digest_of(*first));
    Description derived = description_of(*first, r);
    derived.merge(rank_local_objects(mine));
    Description described = mine.description;
    std::get<ObjectPart>(described.at("step").is).content = {};
    RC_ASSERT(derived == described);
    RC_ASSERT(shape_digest(derived) == shape_digest(mine.description));
  }
}

TEST(LayoutTable, IsNoneWhereATensorHasNoLayout) {
  StateDict state;
  state.add("a", leaf_of({4}, Replicated{}, 0, 2));
  EXPECT_TRUE(layout_table(describe(state, 0, 2), 2));
  TensorLeaf unknown = leaf_of({4}, Replicated{}, 0, 2);
  unknown.layout.reset();
  state.add("b", unknown);
  EXPECT_FALSE(layout_table(describe(state, 0, 2), 2));
  EXPECT_FALSE(table_digest(describe(state, 0, 2), 2));
}

TEST(LayoutTable, ItsDigestTellsApartWhateverAPlanDependsOn) {
  const auto digest_with = [](int ranks, const auto& change) {
    StateDict state;
    state.add("w", leaf_of({8, 2}, Grid{{{.ranks = ranks, .shard = 0}}}, 0, ranks));
    state.add("step", Value(7));
    change(state);
    const Described mine = describe(state, 0, ranks);
    const Digest digest = digest_of(*layout_table(mine, ranks));
    EXPECT_EQ(table_digest(mine, ranks), digest);
    return digest;
  };
  const auto replace = [](StateDict& state, TensorLeaf leaf) { state.leaves.at("w").is = std::move(leaf); };
  const Layout rows = Grid{{{.ranks = 2, .shard = 0}}};
  const std::array<Digest, 9> digests = {
      digest_with(2, [](StateDict&) {}),
      digest_with(4, [](StateDict&) {}),
      digest_with(2, [&](StateDict& state) { replace(state, leaf_of({8, 2}, rows, 0, 2, DType::float64)); }),
      digest_with(2, [&](StateDict& state) { replace(state, leaf_of({9, 2}, rows, 0, 2)); }),
      digest_with(2, [&](StateDict& state) { replace(state, leaf_of({8, 2}, Grid{{{.ranks = 2, .shard = 1}}}, 0, 2)); }),
      digest_with(2, [&](StateDict& state) { replace(state, leaf_of({8, 2}, FlatRange{.offset = 0, .shard_numel = 8}, 0, 2)); }),
      digest_with(2, [](StateDict& state) { state.leaves.at("w").path = {"model", "w"}; }),
      digest_with(2, [](StateDict& state) { state.leaves.at("step").is = Value(1000); }),
      digest_with(2, [](StateDict& state) { state.leaves.erase("step"); }),
  };
  for (size_t a = 0; a < digests.size(); ++a) {
    for (size_t b = 0; b < a; ++b) EXPECT_NE(digests[a], digests[b]) << a << " and " << b;
  }
  EXPECT_EQ(digests[0], digest_with(2, [](StateDict& state) { state.leaves.at("step").is = Value(8); })) << "of the same length";
  EXPECT_EQ(digests[0], digest_with(2, [](StateDict& state) { state.add("stream", RankLocal{Value(1)}); })) << "not of this rank alone";
}

TEST(Describe, RefusesShardsThatAreNotThoseOfTheLayout) {
  StateDict state;
  state.add("w", leaf_of({8, 2}, Grid{{{.ranks = 2, .shard = 0}}}, 0, 2));
  EXPECT_NO_THROW(describe(state, 0, 2));
  const auto refused = [&](int rank, int ranks) {
    const auto outcome = capture([&] { describe(state, rank, ranks); });
    EXPECT_EQ(outcome.fault.code, Code::invalid_argument);
    return outcome.fault.what;
  };
  EXPECT_THAT(refused(1, 2), AllOf(HasSubstr("'w'"), HasSubstr("rank 1 of 2"), HasSubstr("[4:8, 0:2]"), HasSubstr("[0:4, 0:2]")));
  EXPECT_THAT(refused(0, 3), AllOf(HasSubstr("'w'"), HasSubstr("2 ranks where there are 3")));
  std::get<TensorLeaf>(state.leaves.at("w").is).shards.clear();
  EXPECT_THAT(refused(0, 2), HasSubstr("holds nothing"));
}

}  // namespace
}  // namespace tessera
