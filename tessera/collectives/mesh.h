// tessera/collectives/mesh.h: a job's ranks as rows of shards and columns of replicas, for hybrid sharding.
// Layout      Rank r is shard r mod S of replica r div S, so that the ranks of one replica are neighbours, which launchers put on one host.
#pragma once

#include <memory>

#include "tessera/collectives/job.h"

namespace tessera {

struct MeshShape {
  int shards = 1;  // of a replica; the job's size is a multiple
};

// A rank's row and its column. Keeps the job.
class Mesh {
 public:
  // The ranks that hold one replica together, each a shard of it: this rank is number `rank mod shards` there.
  Collectives& shard_group() const { return *shard_group_; }
  // The ranks that hold the same shard, each of another replica: this rank is number `rank div shards` there.
  Collectives& replicate_group() const { return *replicate_group_; }
  int shards() const { return shard_group().size(); }
  int replicas() const { return replicate_group().size(); }

 private:
  friend Mesh make_mesh(const Job& job, const MeshShape& shape);
  explicit Mesh(const Job& job) : job_(job) {}
  Job job_;
  std::unique_ptr<Collectives> owned_[2];  // a group of all ranks is the job's own
  Collectives* shard_group_ = nullptr;
  Collectives* replicate_group_ = nullptr;
};

// Collective: every rank of the job makes one, of the same shape.
// Errors      Error(invalid_argument) where the job's size is no multiple of the shards.
Mesh make_mesh(const Job& job, const MeshShape& shape);

}  // namespace tessera
