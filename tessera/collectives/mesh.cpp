#include "tessera/collectives/mesh.h"

#include <string>
#include <vector>

#include "tessera/base/error.h"

namespace tessera {
namespace {

std::vector<int> every(int step, int first, int count) {
  std::vector<int> ranks;
  for (int i = 0; i < count; ++i) ranks.push_back(first + i * step);
  return ranks;
}

}  // namespace

Mesh make_mesh(const Job& job, const MeshShape& shape) {
  if (shape.shards < 1 || job.size() % shape.shards != 0) {
    throw Error({.code = Code::invalid_argument,
                 .what = "a mesh of " + std::to_string(shape.shards) + " shards does not divide " + std::to_string(job.size()) + " ranks"});
  }
  const int replicas = job.size() / shape.shards;
  Mesh mesh(job);
  const auto group = [&](std::unique_ptr<Collectives>& owned, const std::vector<int>& ranks) {
    if (static_cast<int>(ranks.size()) == job.size()) return &job.collectives();
    owned = job.collectives().split(ranks);
    return owned.get();
  };
  mesh.shard_group_ = group(mesh.owned_[0], every(1, job.rank() / shape.shards * shape.shards, shape.shards));
  mesh.replicate_group_ = group(mesh.owned_[1], every(shape.shards, job.rank() % shape.shards, replicas));
  return mesh;
}

}  // namespace tessera
