#include "tessera/plan/load_plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include "tessera/plan/description.h"

namespace tessera {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

Manifest holding(const std::string& key, DType dtype, Sizes sizes) {
  Manifest manifest;
  manifest.entries[key] = {{key}, TensorEntry{dtype, sizes, {{whole(sizes), {"f", 0, 1}}}}};
  return manifest;
}
StateDict wanting(const std::string& key, DType dtype, Sizes sizes) {
  StateDict state;
  state.add(key, TensorLeaf{dtype, std::move(sizes), {}});
  return state;
}
Fault refused(const Manifest& manifest, const StateDict& state, const LoadOptions& options = {}) {
  const auto outcome = capture([&] { return match(manifest, state, 0, 2, options); });
  EXPECT_FALSE(outcome);
  return outcome.fault;
}

TEST(LoadPlan, WhatDiffersIsAnErrorUnlessItIsAllowed) {
  const Manifest manifest = holding("w", DType::float32, {4});
  const StateDict missing = wanting("v", DType::float32, {4});
  EXPECT_EQ(refused(manifest, missing).code, Code::not_found);
  EXPECT_THAT(match(manifest, missing, 0, 2, {.allow_missing = true}).missing, ElementsAre("v"));
  const StateDict reshaped = wanting("w", DType::float32, {5});
  EXPECT_THAT(refused(manifest, reshaped).what, AllOf(HasSubstr("'w'"), HasSubstr("[4]"), HasSubstr("[5]")));
  EXPECT_THAT(match(manifest, reshaped, 0, 2, {.allow_shape = true}).reshaped, ElementsAre("w"));
  const StateDict retyped = wanting("w", DType::bfloat16, {4});
  EXPECT_THAT(refused(manifest, retyped).what, AllOf(HasSubstr("'w'"), HasSubstr("float32"), HasSubstr("bfloat16")));
  EXPECT_THAT(match(manifest, retyped, 0, 2, {.allow_cast = true}).cast, ElementsAre("w"));
  EXPECT_EQ(refused(manifest, wanting("w", DType::int64, {4}), {.allow_cast = true}).code, Code::mismatch);
  StateDict object;
  object.add("w", Value(1));
  EXPECT_THAT(refused(manifest, object).what, HasSubstr("a tensor in the checkpoint and an object here"));
}

TEST(LoadPlan, AStateOfAnotherKindIsToldAsSuch) {
  EXPECT_THAT(refused(holding("_flat_param", DType::float32, {4}), wanting("w", DType::float32, {4})).hint, HasSubstr("kind local"));
  EXPECT_THAT(refused(holding("w", DType::float32, {4}), wanting("_flat_param", DType::float32, {4})).hint, HasSubstr("kind local"));
}

TEST(LoadPlan, ARankLocalValueComesBackToItsRankOrStartsAfresh) {
  Manifest manifest;
  for (int r = 0; r < 3; ++r) manifest.entries[rank_local_key("rng", r)] = {{"rng"}, ObjectEntry{{"f", 0, 1}}};
  StateDict strict;
  strict.add("rng", RankLocal{Value(1), false});
  StateDict lenient;
  lenient.add("rng", RankLocal{Value(1), true});
  EXPECT_EQ(match(manifest, strict, 2, 3, {}).objects.at(0).key, "rng.rank2");
  EXPECT_THAT(refused(manifest, strict).what, AllOf(HasSubstr("'rng' by 3"), HasSubstr("here are 2")));
  EXPECT_THAT(match(manifest, lenient, 0, 2, {}).reset, ElementsAre("rng"));
}

RC_GTEST_PROP(LoadPlan, ReadsTileWhatIsWantedAndNameTheSameElementsOnBothSides, ()) {
  const Sizes sizes = {*rc::gen::inRange<int64_t>(1, 7), *rc::gen::inRange<int64_t>(1, 7), *rc::gen::inRange<int64_t>(1, 4)};
  TensorEntry entry{DType::float32, sizes, {}};
  for (int64_t begin = 0, end = volume(sizes); begin < end;) {
    const int64_t next = *rc::gen::inRange<int64_t>(begin + 1, end + 1);
    for (Box& box : boxes_of_range(sizes, begin, next)) entry.chunks.push_back({std::move(box), {"f", 0, 1}});
    begin = next;
  }
  Box wanted = whole(sizes);
  for (size_t d = 0; d < sizes.size(); ++d) {
    wanted.offsets[d] = *rc::gen::inRange<int64_t>(0, sizes[d]);
    wanted.sizes[d] = *rc::gen::inRange<int64_t>(0, sizes[d] - wanted.offsets[d] + 1);
  }
  std::vector<Box> covered;
  for (const ChunkRead& read : cut(entry, wanted)) {
    RC_ASSERT(read.from.sizes == read.to.sizes);
    for (size_t d = 0; d < sizes.size(); ++d) {
      RC_ASSERT(read.from.offsets[d] + entry.chunks[read.chunk].box.offsets[d] == read.to.offsets[d] + wanted.offsets[d]);
    }
    covered.push_back(read.to);
  }
  check_tiling("wanted", wanted.sizes, covered, Code::internal);
}

}  // namespace
}  // namespace tessera
