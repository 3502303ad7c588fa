#include "tessera/layout/state_dict.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tessera/base/error.h"

namespace tessera {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Key;

TEST(StateDict, AKeyWithoutAPathIsItsOwnPathDotsAndAll) {
  StateDict state;
  state.add("h.0.weight", Value(1));
  EXPECT_THAT(state.leaves.at("h.0.weight").path, ElementsAre(PathElement("h.0.weight")));
  state.add("g.0", Value(2), {"g", int64_t{0}});
  EXPECT_THAT(state.leaves.at("g.0").path, ElementsAre(PathElement("g"), PathElement(int64_t{0})));
}

TEST(StateDict, TwoValuesUnderOneKeyAreAnErrorThatNamesIt) {
  StateDict state;
  state.add("k", Value(1));
  const auto outcome = capture([&] { state.add("k", Value(2)); });
  ASSERT_FALSE(outcome);
  EXPECT_EQ(outcome.fault.code, Code::invalid_argument);
  EXPECT_THAT(outcome.fault.what, HasSubstr("k"));
  EXPECT_EQ(*state.object("k"), Value(1));
}

TEST(StateDict, AddsAllOfAnotherBelowAPrefix) {
  StateDict inner;
  inner.add("a.b", Value(1), {"a", "b"});
  inner.add("c", RankLocal{Value(2), true});
  std::vector<std::byte> memory(8);
  inner.add("t", replicated(dense_view(memory.data(), DType::float32, {2})));
  StateDict state;
  state.add("other", Value(0));
  state.add_all("model", std::move(inner));
  EXPECT_THAT(state.leaves, ElementsAre(Key("model.a.b"), Key("model.c"), Key("model.t"), Key("other")));
  EXPECT_THAT(state.leaves.at("model.a.b").path, ElementsAre(PathElement("model"), PathElement("a"), PathElement("b")));
  EXPECT_THAT(state.leaves.at("model.c").path, ElementsAre(PathElement("model"), PathElement("c")));
  EXPECT_TRUE(std::get<RankLocal>(state.leaves.at("model.c").is).may_reset);
  EXPECT_EQ(std::get<TensorLeaf>(state.leaves.at("model.t").is).shards.at(0).view.data, memory.data());
}

TEST(StateDict, AddingAllThrowsWhereAKeyIsTaken) {
  StateDict inner;
  inner.add("a", Value(1));
  StateDict state;
  state.add("m.a", Value(0));
  EXPECT_THROW(state.add_all("m", inner), Error);
}

TEST(StateDict, AnObjectIsFoundByKeyAndATensorIsNone) {
  StateDict state;
  state.add("k", Value("v"));
  state.add("t", TensorLeaf{});
  state.add("r", RankLocal{Value(1)});
  ASSERT_NE(state.object("k"), nullptr);
  EXPECT_EQ(*state.object("k"), Value("v"));
  for (const char* key : {"t", "r", "none"}) EXPECT_EQ(state.object(key), nullptr) << key;
}

TEST(Join, APathBecomesAKeyWithDots) {
  EXPECT_EQ(join({"optim", "param_groups", int64_t{0}, "lr"}), "optim.param_groups.0.lr");
  EXPECT_EQ(join({"one"}), "one");
  EXPECT_EQ(join({}), "");
}

TEST(Replicated, TheOneShardIsTheWholeTensor) {
  std::vector<std::byte> memory(24);
  const TensorLeaf leaf = replicated(dense_view(memory.data(), DType::int32, {2, 3}));
  EXPECT_EQ(leaf.dtype, DType::int32);
  EXPECT_EQ(leaf.sizes, (Sizes{2, 3}));
  ASSERT_EQ(leaf.shards.size(), 1u);
  EXPECT_EQ(leaf.shards[0].box, whole(leaf.sizes));
  EXPECT_EQ(leaf.shards[0].view.sizes, leaf.sizes);
  EXPECT_EQ(leaf.shards[0].view.data, memory.data());
}

}  // namespace
}  // namespace tessera
