#include "tessera/plan/save_plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <limits>

#include "tessera/format/item.h"
#include "tessera/layout/random_layouts.h"

namespace tessera {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

Part tensor(Sizes sizes, std::vector<Box> boxes, DType dtype = DType::float32) {
  return {{"k"}, TensorPart{dtype, std::move(sizes), std::move(boxes)}};
}
Part object(const std::string& text) {
  const Bytes item = format::write_object_item(Value(text));
  return {{"k"}, ObjectPart{static_cast<int64_t>(item.size()), digest(item)}};
}
Box rows(int64_t begin, int64_t end, int64_t width) { return {{begin, 0}, {end - begin, width}}; }

Fault fault_of_plan(const std::vector<Description>& ranks) {
  const auto outcome = capture([&] { return plan_save(ranks, "id"); });
  EXPECT_FALSE(outcome);
  return outcome.fault;
}

TEST(SavePlan, EveryBoxHasOneOwnerAndItsPlaceInThatRanksFile) {
  const SavePlan plan = plan_save({{{"k", tensor({5, 7}, {rows(0, 3, 7)})}}, {{"k", tensor({5, 7}, {rows(3, 5, 7)})}}}, "id");
  const auto& entry = std::get<TensorEntry>(plan.manifest.entries.at("k").is);
  ASSERT_EQ(entry.chunks.size(), 2u);
  EXPECT_EQ(entry.chunks[0].box, rows(0, 3, 7));
  EXPECT_EQ(entry.chunks[0].at, (Extent{"__0_0.distcp", 0, format::item_frame(DType::float32, Sizes{3, 7}).length_bytes}));
  EXPECT_EQ(entry.chunks[1].at.file, "__1_0.distcp");
  EXPECT_EQ(plan.manifest.save_id, "id");
}

TEST(SavePlan, ReplicasGoToTheRankWithTheFewestBytes) {
  const auto big = [](int64_t n) { return tensor({n}, {whole(Sizes{n})}); };
  const Description both = {{"a", big(100000)}, {"b", big(60000)}, {"c", big(50000)}};
  const SavePlan plan = plan_save({both, both}, "id");
  ASSERT_EQ(plan.ranks[0].items.size(), 1u);
  EXPECT_EQ(plan.ranks[0].items[0].key, "a");
  EXPECT_EQ(plan.ranks[1].items.size(), 2u);
}

// Of one tensor on all of `ranks`: how much each of them writes.
std::vector<int64_t> bytes_by_rank(const SavePlan& plan) {
  std::vector<int64_t> bytes;
  for (const RankWrites& writes : plan.ranks) bytes.push_back(writes.file_bytes);
  return bytes;
}

TEST(SavePlan, ALargeReplicaIsCutIntoRowsForThoseWhoHoldIt) {
  const Description all = {{"w", tensor({1, 7 << 20, 4}, {whole(Sizes{1, 7 << 20, 4})})}};  // 112 MiB
  const SavePlan plan = plan_save({all, all, all}, "id");
  const auto& chunks = std::get<TensorEntry>(plan.manifest.entries.at("w").is).chunks;
  ASSERT_EQ(chunks.size(), 3u);
  EXPECT_EQ(chunks[1].box, (Box{{0, 2446678, 0}, {1, 2446677, 4}})) << "the first part has what is left over";
  validate(plan.manifest);
  for (size_t r = 0; r < 3; ++r) {
    ASSERT_EQ(plan.ranks[r].items.size(), 1u);
    EXPECT_EQ(decode_rank_writes(encode(plan.ranks[r])), plan.ranks[r]);
  }
  EXPECT_LE(std::ranges::max(bytes_by_rank(plan)) - std::ranges::min(bytes_by_rank(plan)), 64);
}

TEST(SavePlan, CutsNoMoreThanFairnessAsks) {
  const auto parts_of = [](int64_t rows, int ranks, std::optional<int64_t> beside_rows = {}) {
    Description all = {{"w", tensor({rows, 1 << 18}, {whole(Sizes{rows, 1 << 18})})}};  // 1 MiB a row
    if (beside_rows) all.emplace("z", tensor({*beside_rows, 1 << 18}, {whole(Sizes{*beside_rows, 1 << 18})}));
    const std::vector<Description> every(static_cast<size_t>(ranks), all);
    return std::get<TensorEntry>(plan_save(every, "id").manifest.entries.at("w").is).chunks.size();
  };
  EXPECT_EQ(parts_of(24, 4), 1u) << "below twice the least part";
  EXPECT_EQ(parts_of(33, 4), 2u) << "parts of the least size";
  EXPECT_EQ(parts_of(999, 4), 4u) << "as many as hold it";
  EXPECT_EQ(parts_of(999, 1), 1u) << "held once";
  EXPECT_EQ(parts_of(48, 2, 999), 1u) << "small beside a rank's share";
  const Description one_row = {{"w", tensor({2, 1 << 25}, {whole(Sizes{2, 1 << 25})})}};
  EXPECT_EQ(std::get<TensorEntry>(plan_save({one_row, one_row, one_row}, "id").manifest.entries.at("w").is).chunks.size(), 2u)
      << "no part without a row";
}

TEST(SavePlan, WhatMayDifferByRankIsTheFirstRanks) {
  Part mine = tensor({7 << 20, 4}, {whole(Sizes{7 << 20, 4})});  // 112 MiB
  std::get<TensorPart>(mine.is).alike = false;
  const Description all = {{"small", tensor({9}, {whole(Sizes{9})})}, {"w", mine}};
  const SavePlan plan = plan_save({all, all, all}, "id");
  const auto& chunks = std::get<TensorEntry>(plan.manifest.entries.at("w").is).chunks;
  ASSERT_EQ(chunks.size(), 1u);
  EXPECT_EQ(chunks.front().at.file, "__0_0.distcp");
  Description other = all;
  std::get<TensorPart>(other.at("w").is).alike = true;
  EXPECT_THAT(fault_of_plan({all, other}).what, AllOf(HasSubstr("layout of 'w'"), HasSubstr("ranks 0 and 1")));
}

TEST(SavePlan, PartsOfReplicatedColumnsStandInTheOrderOfBoxes) {
  // Four ranks in pairs: two halves of the columns, each held twice.
  const auto half = [](int64_t column) { return Description{{"w", tensor({64, 1 << 19}, {{{0, column}, {64, 1 << 18}}})}}; };
  const SavePlan plan = plan_save({half(0), half(0), half(1 << 18), half(1 << 18)}, "id");
  const auto& chunks = std::get<TensorEntry>(plan.manifest.entries.at("w").is).chunks;
  ASSERT_EQ(chunks.size(), 4u);
  EXPECT_TRUE(std::ranges::is_sorted(chunks, {}, &Chunk::box));
  validate(plan.manifest);
  std::set<std::string> files;
  for (const Chunk& chunk : chunks) files.insert(chunk.at.file);
  EXPECT_EQ(files.size(), 4u) << "every rank writes its part";
}

TEST(SavePlan, ObjectsStandBeforeTensors) {
  const SavePlan plan = plan_save({{{"a", tensor({2}, {whole(Sizes{2})})}, {"b", object("x")}}}, "id");
  ASSERT_EQ(plan.ranks[0].items.size(), 2u);
  EXPECT_EQ(plan.ranks[0].items[0].key, "b");
}

TEST(SavePlan, RefusesNumbersOfARankThatNoTensorCanHave) {
  constexpr int64_t huge = int64_t{1} << 62;
  const Part bad[] = {
      tensor({huge, huge}, {}),
      tensor({-1, 0}, {}),
      tensor({2, 3}, {{{0, 0}, {huge, huge}}}),
      tensor({2, 3}, {rows(0, 2, 3), {{-huge, 0}, {0, 3}}}),
      tensor({2, 3}, {rows(0, 2, 3), {{0}, {0}}}),
      tensor({0, 3}, {whole(Sizes{0, 3}), {{1, 0}, {0, 3}}}),
      {{"k"}, ObjectPart{-1, {}}},
  };
  for (const Part& part : bad) {
    const Fault fault = fault_of_plan({{{"k", part}}});
    EXPECT_EQ(fault.code, Code::invalid_argument);
    EXPECT_THAT(fault.what, HasSubstr("'k'"));
  }
  const Part large{{"k"}, ObjectPart{std::numeric_limits<int64_t>::max() - 1, {}}};
  EXPECT_EQ(fault_of_plan({{{"a", large}, {"b", large}}}).code, Code::invalid_argument) << "together they overflow";
}

TEST(SavePlan, ATensorWithoutElementsIsOneEmptyChunk) {
  const Part empty = tensor({0, 4}, {{{0, 0}, {0, 4}}});
  const SavePlan plan = plan_save({{{"k", empty}}, {{"k", empty}}}, "id");
  EXPECT_EQ(std::get<TensorEntry>(plan.manifest.entries.at("k").is).chunks.size(), 1u);
  EXPECT_EQ(plan.ranks[0].items.size() + plan.ranks[1].items.size(), 1u);
}

TEST(SavePlan, ARankWithNothingToWriteHasNoFile) {
  const SavePlan plan = plan_save({{{"k", tensor({1}, {whole(Sizes{1})})}}, {{"k", tensor({1}, {})}}, {}}, "id");
  EXPECT_TRUE(plan.ranks[1].items.empty());
  EXPECT_TRUE(plan.ranks[2].items.empty());
}

TEST(SavePlan, NamesTheKeyAndTheRanksThatDisagree) {
  const Part half = tensor({4, 2}, {rows(0, 2, 2)});
  EXPECT_THAT(fault_of_plan({{{"w", half}}, {{"w", tensor({4, 2}, {rows(2, 4, 2)}, DType::float64)}}}).what,
              AllOf(HasSubstr("ranks 0 and 1"), HasSubstr("'w'"), HasSubstr("float32 and float64")));
  EXPECT_THAT(fault_of_plan({{}, {{"w", half}}, {{"w", tensor({5, 2}, {rows(2, 5, 2)})}}}).what,
              AllOf(HasSubstr("ranks 1 and 2"), HasSubstr("shape")));
  EXPECT_THAT(fault_of_plan({{{"w", half}}, {{"w", object("x")}}}).what, HasSubstr("a tensor and an object"));
  const Fault objects = fault_of_plan({{{"n", object("x")}}, {{"n", object("y")}}});
  EXPECT_EQ(objects.code, Code::mismatch);
  EXPECT_THAT(objects.what, AllOf(HasSubstr("'n'"), HasSubstr("ranks 0 and 1")));
}

TEST(SavePlan, ReplicasWithDigestsMustAgree) {
  const auto held = [](std::vector<Box> boxes, const std::vector<std::string>& contents) {
    Part part = tensor({4, 2}, std::move(boxes));
    for (const std::string& content : contents)
      std::get<TensorPart>(part.is).contents.push_back(content.empty() ? std::nullopt : std::optional(digest(as_bytes(content))));
    return Description{{"w", part}};
  };
  const Box top = rows(0, 2, 2), bottom = rows(2, 4, 2);
  const std::vector<Description> agree = {held({top, bottom}, {"t", ""}), held({top}, {"t"}), held({}, {})};
  EXPECT_NO_THROW(plan_save(agree, "id"));
  const std::vector<std::vector<HeldBox>> expected = {{{"w", 0}}, {{"w", 0}}, {}};
  EXPECT_EQ(replicated_boxes(agree), expected);
  const Fault fault = fault_of_plan({held({top, bottom}, {"t", ""}), held({bottom}, {""}), held({top}, {"u"})});
  EXPECT_EQ(fault.code, Code::mismatch);
  EXPECT_THAT(fault.what, AllOf(HasSubstr("ranks 0 and 2"), HasSubstr("'w'"), HasSubstr("[0:2, 0:2]")));
  EXPECT_EQ(fault_of_plan({held({top, top, bottom}, {"t", "u", ""})}).code, Code::mismatch) << "one rank that holds a box twice";
  for (const Description& description : agree) EXPECT_EQ(decode_description(encode(description)), description);
}

TEST(SavePlan, RefusesHolesAndOverlapsByName) {
  EXPECT_THAT(fault_of_plan({{{"w", tensor({4, 2}, {rows(0, 2, 2)})}}}).what, AllOf(HasSubstr("'w'"), HasSubstr("4 of the 8")));
  EXPECT_THAT(fault_of_plan({{{"w", tensor({4, 2}, {rows(0, 3, 2)})}}, {{"w", tensor({4, 2}, {rows(2, 4, 2)})}}}).what,
              HasSubstr("overlap"));
}

RC_GTEST_PROP(SavePlan, AnyCutOverAnyRanksGivesAManifestThatIsSoundAndFilesWithoutGaps, ()) {
  const int ranks = *rc::gen::inRange(1, 6);
  std::vector<Description> all(static_cast<size_t>(ranks));
  const int tensors = *rc::gen::inRange(0, 8);
  for (int t = 0; t < tensors; ++t) {
    const Sizes sizes = {*rc::gen::inRange<int64_t>(1, 6), *rc::gen::inRange<int64_t>(1, 6)};
    const std::string key = "t" + std::to_string(t);
    for (auto& description : all) description.emplace(key, Part{{key}, TensorPart{DType::float32, sizes, {}}});
    for (int64_t begin = 0, end = volume(sizes); begin < end;) {
      const int64_t next = *rc::gen::inRange<int64_t>(begin + 1, end + 1);
      // One rank holds the range, or several hold replicas of it.
      const auto holders = *rc::gen::container<std::set<int>>(rc::gen::inRange(0, ranks));
      for (int r = 0; r < ranks; ++r) {
        if (!holders.contains(r) && !(holders.empty() && r == 0)) continue;
        auto& boxes = std::get<TensorPart>(all[static_cast<size_t>(r)].at(key).is).boxes;
        for (Box& box : boxes_of_range(sizes, begin, next)) boxes.push_back(std::move(box));
      }
      begin = next;
    }
  }
  std::vector<Description> received;
  for (const Description& description : all) {
    received.push_back(decode_description(encode(description)));
    RC_ASSERT(received.back() == description);
  }
  const SavePlan plan = plan_save(received, "id");
  validate(plan.manifest);
  std::map<std::string, std::map<int64_t, int64_t>> extents;
  for (const auto& [key, entry] : plan.manifest.entries) {
    for (const Chunk& chunk : std::get<TensorEntry>(entry.is).chunks)
      RC_ASSERT(extents[chunk.at.file].emplace(chunk.at.offset_bytes, chunk.at.length_bytes).second);
  }
  for (const RankWrites& writes : plan.ranks) {
    RC_ASSERT(decode_rank_writes(encode(writes)) == writes);
    int64_t end = 0;
    for (const auto& [offset, length] : extents[writes.file]) {
      RC_ASSERT(offset == end);
      end += length;
    }
    RC_ASSERT(end == writes.file_bytes);
  }
}

// A table of any layouts, and for each rank the rank-local objects that it may have.
struct AnyJob {
  LayoutTable table;
  std::vector<Description> locals;
  std::vector<Description> described() const {
    std::vector<Description> ranks;
    for (int r = 0; r < table.ranks; ++r) {
      ranks.push_back(description_of(table, r));
      ranks.back().merge(Description(locals[static_cast<size_t>(r)]));
    }
    return ranks;
  }
};
// A mesh of two dimensions of all ranks.
Layout any_mesh(const Sizes& sizes, int ranks) {
  int first = *uniform(1, ranks + 1);
  while (ranks % first != 0) --first;
  const auto cut = [&]() -> std::optional<int> {
    const int dim = *uniform(-1, static_cast<int>(sizes.size()));
    return dim < 0 ? std::nullopt : std::optional(dim);
  };
  return Grid{{{.ranks = first, .shard = cut()}, {.ranks = ranks / first, .shard = cut()}}};
}
// Some so large that tensors are cut for those who hold them.
Sizes any_small_or_large_sizes() {
  Sizes sizes = *any_sizes();
  if (!sizes.empty() && *uniform(0, 2) == 0) sizes[*uniform<size_t>(0, sizes.size())] *= 1 << 24;
  return sizes;
}
AnyJob any_job() {
  AnyJob job{{.ranks = *uniform(1, 9), .entries = {}}, {}};
  const auto add = [&](const std::string& key, std::variant<LayoutTable::Tensor, LayoutTable::Object> is) {
    job.table.entries.emplace(key, LayoutTable::Entry{{"model", key}, std::move(is)});
  };
  for (int t = *uniform(0, 6); t > 0; --t) {
    const Sizes sizes = any_small_or_large_sizes();
    const DType dtype = *rc::gen::element(DType::float32, DType::bfloat16, DType::uint8);
    Layout layout = *uniform(0, 2) ? (*any_spread(sizes, job.table.ranks)).layout : any_mesh(sizes, job.table.ranks);
    if (auto* replicated = std::get_if<Replicated>(&layout)) replicated->alike = *uniform(0, 2) == 0;
    add("t" + std::to_string(t), LayoutTable::Tensor{dtype, sizes, layout});
  }
  for (int o = *uniform(0, 4); o > 0; --o)
    add(*rc::gen::element<std::string>("s", "u") + std::to_string(o), LayoutTable::Object{*uniform<int64_t>(0, 999)});
  job.locals.resize(static_cast<size_t>(job.table.ranks));
  for (int l = *uniform(0, 3); l > 0; --l) {
    for (int r = 0; r < job.table.ranks; ++r) {
      const std::string key = rank_local_key("stream" + std::to_string(l), r);
      job.locals[static_cast<size_t>(r)].emplace(key, Part{{key}, ObjectPart{*uniform<int64_t>(0, 999), {}}});
    }
  }
  return job;
}

RC_GTEST_PROP(SavePlan, FromLayoutsIsThatOfTheDescriptionsThatTheyStandFor, ()) {
  const AnyJob job = any_job();
  const SavePlan expected = plan_save(job.described(), "id");
  const SavePlan plan = plan_save(job.table, job.locals, "id");
  RC_ASSERT(plan.manifest == expected.manifest);
  RC_ASSERT(plan.ranks == expected.ranks);
  for (int r = 0; r < job.table.ranks; ++r) RC_ASSERT(writes_of(job.table, job.locals, r) == expected.ranks[static_cast<size_t>(r)]);
}

TEST(SavePlan, FromLayoutsRefusesAKeyThatIsAlsoARanksOwn) {
  AnyJob job{{.ranks = 1, .entries = {}}, {{{"a.rank0", object("x")}}}};
  job.table.entries.emplace("a.rank0", LayoutTable::Entry{{"a.rank0"}, LayoutTable::Object{1}});
  const auto outcome = capture([&] { plan_save(job.table, job.locals, "id"); });
  EXPECT_EQ(outcome.fault.code, Code::invalid_argument);
  EXPECT_THAT(outcome.fault.what, HasSubstr("'a.rank0'"));
}

TEST(SavePlan, FromLayoutsRefusesWhatOtherRanksThanTheirsHold) {
  LayoutTable table{.ranks = 2, .entries = {}};
  EXPECT_THROW(plan_save(table, std::vector<Description>(3), "id"), Error);
  table.entries.emplace("w", LayoutTable::Entry{{"w"}, LayoutTable::Tensor{DType::float32, {4}, Grid{{{.ranks = 3, .shard = 0}}}}});
  EXPECT_THROW(plan_save(table, std::vector<Description>(2), "id"), Error);
}

}  // namespace
}  // namespace tessera
