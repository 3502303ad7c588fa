// load() of ranks on every format that open.h reads, and of parts, under other names, in other dtypes.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>

#include "tessera/checkpoint/checkpoint.h"
#include "tessera/checkpoint/load.h"
#include "tessera/checkpoint/on_ranks_test.h"

namespace tessera {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

const std::string golden = TESSERA_GOLDEN "/torch-2.13/";

// A tensor of which this rank wants the rows that are its own.
struct Rows {
  std::vector<std::byte> memory;
  Box box;
  TensorLeaf leaf;
  Rows(const Comm& comm, DType dtype, Sizes sizes) : box(whole(sizes)) {
    box.offsets[0] = sizes[0] * comm.rank() / comm.size();
    box.sizes[0] = sizes[0] * (comm.rank() + 1) / comm.size() - box.offsets[0];
    memory.resize(static_cast<size_t>(volume(box) * element_bytes(dtype)), std::byte{0x5a});
    leaf = {dtype, std::move(sizes), {{box, dense_view(memory.data(), dtype, box.sizes)}}};
  }
};

TEST(LoadOfAnyFormat, EveryRankGetsItsRows) {
  for (const char* path : {"fsdp1_sharded/ckpt", "hf_sharded/ckpt", "hf_rank0/ckpt", "safetensors_format/ckpt",
                           "torch_save_single_file/ckpt/model.pt", "torch_save_single_file/ckpt/legacy.pt", "zstd_extension/ckpt"}) {
    SCOPED_TRACE(path);
    const Checkpoint checkpoint = Checkpoint::open(golden + path);
    for (const std::string& key : checkpoint.keys()) {
      const auto* entry = std::get_if<TensorEntry>(&checkpoint.manifest().entries.at(key).is);
      if (!entry || entry->sizes.empty()) continue;
      all_well(on_ranks(3, [&](Comm& comm) {
        Rows mine(comm, entry->dtype, entry->sizes);
        StateDict state;
        state.add(key, mine.leaf);
        load(comm, golden + path, state);
        std::vector<std::byte> expected(mine.memory.size());
        checkpoint.read(key, mine.box, dense_view(expected.data(), entry->dtype, mine.box.sizes));
        EXPECT_EQ(mine.memory, expected) << key;
      }));
    }
  }
}

TEST(LoadOfRankLocal, EachRankGetsItsOwnAndAnotherNumberOfRanksIsRefused) {
  const std::string path = golden + "no_collectives/ckpt";
  const auto load_n = [&](Comm& comm) {
    StateDict state;
    state.add("n", Value(-1));
    load(comm, path, state);
    EXPECT_EQ(*state.object("n"), Value(comm.rank()));
  };
  all_well(on_ranks(2, load_n));
  for (const auto& outcome : on_ranks(3, load_n)) {
    EXPECT_EQ(outcome.fault.code, Code::mismatch);
    EXPECT_THAT(outcome.fault.what, HasSubstr("saved by 2 ranks"));
  }
  EXPECT_EQ(Checkpoint::open(path, {.rank = 1}).object("n"), Value(1));
}

TEST(LoadOfParts, FilterRenameAndCastByPattern) {
  const std::string path = golden + "hf_rank0/ckpt";  // layers.0.weight F32 [5, 4], layers.1.weight BF16 [4, 6], bias F16 [3]
  all_well(on_ranks(2, [&](Comm& comm) {
    Rows first(comm, DType::float32, {5, 4});
    Rows bias(comm, DType::float32, {3});
    Rows other(comm, DType::float32, {2, 2});
    StateDict state;
    state.add("net.0.w", first.leaf);
    state.add("net.bias", bias.leaf);
    state.add("untouched", other.leaf);
    const LoadReport report = load(comm, path, state,
                                   {.cast_keys = {"*.bias"},
                                    .filter = {.keys = {"net.*"}},
                                    .rename = {{"^layers\\.(\\d+)\\.weight$", "net.$1.w"}, {"^bias$", "net.bias"}}});
    EXPECT_THAT(report.missing, IsEmpty());
    EXPECT_THAT(report.unexpected, ElementsAre("net.1.w"));
    EXPECT_THAT(report.cast, ElementsAre("net.bias"));
    EXPECT_EQ(other.memory.front(), std::byte{0x5a}) << "what the filter leaves out keeps its value";
    EXPECT_NE(first.memory.front(), std::byte{0x5a});
  }));
  const auto strict = on_ranks(2, [&](Comm& comm) {
    Rows bias(comm, DType::float32, {3});
    StateDict state;
    state.add("bias", bias.leaf);
    load(comm, path, state, {.cast_keys = {"weight"}});
  });
  EXPECT_EQ(strict.front().fault.code, Code::mismatch) << "unasked, nothing is converted";
}

TEST(Read, CastsWhereTheViewAsksForItAndNowhereElse) {
  const Checkpoint checkpoint = Checkpoint::open(golden + "hf_rank0/ckpt");
  std::vector<float> wide(24);
  std::vector<int32_t> wrong(24);
  const Box all = whole(Sizes{4, 6});
  checkpoint.read("layers.1.weight", all, dense_view(reinterpret_cast<std::byte*>(wide.data()), DType::float32, all.sizes));
  const StateDict loaded = checkpoint.load({.keys = {"layers.1.*"}}, {{"*", DType::float32}});
  const View& view = std::get<TensorLeaf>(loaded.leaves.at("layers.1.weight").is).shards.at(0).view;
  EXPECT_EQ(std::memcmp(view.data, wide.data(), sizeof(float) * wide.size()), 0);
  const auto refused = capture(
      [&] { checkpoint.read("layers.1.weight", all, dense_view(reinterpret_cast<std::byte*>(wrong.data()), DType::int32, all.sizes)); });
  EXPECT_EQ(refused.fault.code, Code::invalid_argument);
}

}  // namespace
}  // namespace tessera
