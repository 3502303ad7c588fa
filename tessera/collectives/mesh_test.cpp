#include "tessera/collectives/mesh.h"

#include <ATen/ops/full.h>
#include <ATen/ops/zeros.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace tessera {
namespace {

TEST(Mesh, RowsShareAReplicaAndColumnsAShard) {
  run_ranks(4, [](Job& job) {
    const Mesh mesh = make_mesh(job, {.shards = 2});
    EXPECT_EQ(mesh.shards(), 2);
    EXPECT_EQ(mesh.replicas(), 2);
    EXPECT_EQ(mesh.shard_group().rank(), job.rank() % 2);
    EXPECT_EQ(mesh.replicate_group().rank(), job.rank() / 2);
    // A gradient's way in hybrid sharding: scattered over the shards, averaged over the replicas, gathered over the shards.
    const at::Tensor gradient = at::full({6}, job.rank() + 1.0);
    const at::Tensor shard = at::zeros({3}), full = at::zeros({6});
    mesh.shard_group().reduce_scatter_into(shard, gradient, Reduce::mean)->wait();
    mesh.replicate_group().all_reduce(shard, Reduce::mean)->wait();
    mesh.shard_group().all_gather_into(full, shard)->wait();
    EXPECT_TRUE(full.equal(at::full({6}, 2.5)));
  });
}

TEST(Mesh, OfOneRowOrOneColumnIsTheWholeJob) {
  run_ranks(3, [](Job& job) {
    const Mesh row = make_mesh(job, {.shards = 3});
    EXPECT_EQ(&row.shard_group(), &job.collectives());
    EXPECT_EQ(row.replicas(), 1);
    const Mesh column = make_mesh(job, {.shards = 1});
    EXPECT_EQ(column.shards(), 1);
    EXPECT_EQ(&column.replicate_group(), &job.collectives());
  });
}

TEST(Mesh, RefusesShardsThatDoNotDivideTheRanks) {
  run_ranks(3, [](Job& job) {
    for (const int shards : {-1, 0, 2, 6}) {
      EXPECT_EQ(capture([&] { make_mesh(job, {.shards = shards}); }).fault.code, Code::invalid_argument) << shards;
    }
  });
}

TEST(Mesh, ARanksFailureEndsTheWaitOfItsGroupAndOfOthers) {
  const auto outcome = capture([] {
    run_ranks(4, [](Job& job) {
      const Mesh mesh = make_mesh(job, {.shards = 2});
      if (job.rank() == 3) throw Error({.code = Code::io, .what = "no disk"});
      const at::Tensor one = at::zeros({1});
      for (;;) mesh.shard_group().all_reduce(one, Reduce::sum)->wait();
    });
  });
  EXPECT_EQ(outcome.fault.code, Code::io);
  EXPECT_EQ(outcome.fault.rank, 3);
}

}  // namespace
}  // namespace tessera
