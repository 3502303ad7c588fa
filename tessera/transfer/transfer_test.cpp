// Write and read are proved against each other and against a plain copy in memory: any cut, any strides, any box.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <cstring>
#include <numeric>

#include "tessera/plan/load_plan.h"
#include "tessera/storage/memory_storage.h"
#include "tessera/transfer/items.h"
#include "tessera/transfer/read_box.h"
#include "tessera/transfer/write_shards.h"

namespace tessera {
namespace {

std::vector<float> counting(size_t count) {
  std::vector<float> values(count);
  std::iota(values.begin(), values.end(), 1.0f);
  return values;
}
View view_of(std::vector<float>& values, Sizes sizes) {
  return dense_view(reinterpret_cast<std::byte*>(values.data()), DType::float32, std::move(sizes));
}

// A checkpoint of one rank in memory, below "c".
struct Saved {
  std::shared_ptr<MemoryStorage> memory = std::make_shared<MemoryStorage>();
  MemoryStorage& storage = *memory;
  SavePlan plan;
  Proof proof;

  explicit Saved(const StateDict& state) {
    const Described described = describe(state, 0, 1);
    plan = plan_save({described.description}, "id");
    const Path staging = storage.stage("c", "id");
    proof = write_shards(plan.ranks[0], described, storage, staging);
    const auto metadata = storage.create(staging + "/.metadata");  // only its name counts here
    metadata->close();
    storage.commit(staging, "c", ".metadata", Replace::never);
  }
  const TensorEntry& tensor(const std::string& key) const { return std::get<TensorEntry>(plan.manifest.entries.at(key).is); }
  ReadCount read(const std::string& key, const Box& box, const View& into) {
    const auto items = archive_items(memory, "c", {});
    ReadCount count;
    for (const ChunkRead& read : cut(tensor(key), box)) {
      const OpenItem open = items->tensor(key, tensor(key), tensor(key).chunks[read.chunk]);
      count += read_item(open, read.from, part(into, read.to));
    }
    return count;
  }
};

TEST(Transfer, WritesWhatThePlanSaysAndProvesIt) {
  std::vector<float> big = counting(700'000);  // more than one slab
  std::vector<float> small = counting(3);
  StateDict state;
  state.add("big", replicated(view_of(big, {700, 1000})));
  state.add("small", replicated(view_of(small, {3})));
  state.add("note", Value("text"));
  Saved saved(state);
  EXPECT_EQ(saved.proof.length_bytes, saved.plan.ranks[0].file_bytes);
  EXPECT_THAT(saved.proof.blocks, testing::SizeIs(3)) << "blocks of 1 MiB";
  std::vector<float> loaded(big.size());
  const ReadCount count = saved.read("big", whole(Sizes{700, 1000}), view_of(loaded, {700, 1000}));
  EXPECT_EQ(loaded, big);
  EXPECT_EQ(count.read_bytes, 2'800'000);
  EXPECT_EQ(count.unverified_bytes, 0);
  const auto items = archive_items(saved.memory, "c", {});
  EXPECT_EQ(items->object("note", std::get<ObjectEntry>(saved.plan.manifest.entries.at("note").is)), Value("text"));
}

TEST(Transfer, APartOfAnItemReadsItsBytesAndCountsThemAsUnverified) {
  std::vector<float> values = counting(64 * 4096);
  StateDict state;
  state.add("w", replicated(view_of(values, {64, 4096})));
  Saved saved(state);
  std::vector<float> row(4096);
  const ReadCount count = saved.read("w", {{9, 0}, {1, 4096}}, view_of(row, {1, 4096}));
  EXPECT_EQ(row[0], values[9 * 4096]);
  EXPECT_EQ(count.read_bytes, 4096 * 4);
  EXPECT_EQ(count.unverified_bytes, count.read_bytes);
}

TEST(Transfer, ConvertsInPiecesWhateverTheSize) {
  std::vector<float> values = counting(400'000);
  StateDict state;
  state.add("w", replicated(view_of(values, {2, 200'000})));
  Saved saved(state);
  std::vector<double> loaded(values.size());
  const ReadCount count =
      saved.read("w", whole(Sizes{2, 200'000}), dense_view(reinterpret_cast<std::byte*>(loaded.data()), DType::float64, {2, 200'000}));
  EXPECT_TRUE(std::equal(loaded.begin(), loaded.end(), values.begin()));
  EXPECT_EQ(count.unverified_bytes, 0);
}

RC_GTEST_PROP(Transfer, AnyBoxOfAnyCutIntoAnyStridesIsExactlyWhatWasSaved, ()) {
  const Sizes sizes = {*rc::gen::inRange<int64_t>(1, 9), *rc::gen::inRange<int64_t>(1, 9), *rc::gen::inRange<int64_t>(1, 5)};
  std::vector<float> values = counting(static_cast<size_t>(volume(sizes)));
  const View all = view_of(values, sizes);
  TensorLeaf leaf{DType::float32, sizes, {}};
  for (int64_t begin = 0, end = volume(sizes); begin < end;) {
    const int64_t next = *rc::gen::inRange<int64_t>(begin + 1, end + 1);
    for (Box& box : boxes_of_range(sizes, begin, next)) leaf.shards.push_back({box, part(all, box)});
    begin = next;
  }
  StateDict state;
  state.add("t", std::move(leaf));
  Saved saved(state);
  Box box = whole(sizes);
  for (size_t d = 0; d < sizes.size(); ++d) {
    box.offsets[d] = *rc::gen::inRange<int64_t>(0, sizes[d]);
    box.sizes[d] = *rc::gen::inRange<int64_t>(1, sizes[d] - box.offsets[d] + 1);
  }
  // A destination whose dimensions are permuted and padded.
  std::vector<float> memory(static_cast<size_t>(volume(box) * 8 + 64), -1.0f);
  View into = view_of(memory, box.sizes);
  std::vector<size_t> order = {0, 1, 2};
  if (*rc::gen::arbitrary<bool>()) std::swap(order[0], order[2]);
  if (*rc::gen::arbitrary<bool>()) std::swap(order[1], order[2]);
  int64_t stride = *rc::gen::inRange<int64_t>(1, 3);
  for (const size_t d : order) {
    into.strides[d] = stride;
    stride *= box.sizes[d];
  }
  saved.read("t", box, into);
  std::vector<float> expected(static_cast<size_t>(volume(box)));
  std::vector<float> actual(expected.size());
  copy(part(all, box), view_of(expected, box.sizes));
  copy(into, view_of(actual, box.sizes));
  RC_ASSERT(actual == expected);
}

// An object's bytes are made for the moment: those that helpers are to write later are copied.
TEST(WriteShards, ALargeObjectIsWrittenByHelpersAsItIs) {
  StateDict state;
  std::string large(size_t{5} << 20, '\0');
  for (size_t i = 0; i < large.size(); ++i) large[i] = static_cast<char>('a' + i * 2654435761U % 23);
  state.add("large", Value(large));
  state.add("small", Value("x"));
  const Described described = describe(state, 0, 1);
  const SavePlan plan = plan_save({described.description}, "id");
  for (const int threads : {1, 3}) {
    MemoryStorage storage;
    const Proof proof = write_shards(plan.ranks[0], described, storage, "", {.threads = threads});
    const auto file = storage.open(proof.file);
    const auto at = std::get<ObjectEntry>(plan.manifest.entries.at("large").is).at;
    EXPECT_EQ(format::read_object_item(PartSource(*file, at.offset_bytes, at.length_bytes)), Value(large));
  }
}

}  // namespace
}  // namespace tessera
