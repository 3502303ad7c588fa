// tests/property/mesh.h: a random state, and how it is spread over ranks: uneven, empty, replicated, by rows, columns, cells and flat
// ranges, in memory with gaps and turned dimensions. The truth about it is one dense array a tensor, element by element.
#pragma once

#include <deque>
#include <map>
#include <string>
#include <vector>

#include "tessera/layout/state_dict.h"
#include "tests/support/seeded_random.h"

namespace tessera {

struct MeshTensor {
  KeyPath path;
  DType dtype = DType::float32;
  Sizes sizes;
  std::vector<std::byte> elements;  // all of them, row-major
};

struct MeshState {
  std::map<std::string, MeshTensor> tensors;
  std::map<std::string, std::pair<KeyPath, Value>> objects;  // the same on every rank
  std::vector<std::string> locals;                           // keys of values that each rank has for itself
};
// The value of rank `rank` of `ranks` under a rank-local key.
Value local_value(const std::string& key, int rank);

// Tensors, objects, and for some a training's optimizer: moments like their parameter, a step each, groups of options.
MeshState any_mesh_state(SeededRandom& random);

// What each rank holds of each tensor: key → rank → boxes. A rank may lack a key.
using Spread = std::map<std::string, std::vector<std::vector<Box>>>;
// Together the ranks hold everything, and boxes that meet are the same: fit for saving.
Spread any_tiling(SeededRandom& random, const MeshState& state, int ranks);
// A tiling, or whatever boxes, which may overlap and leave out anything: fit for loading.
Spread any_wish(SeededRandom& random, const MeshState& state, int ranks);

// One rank's part in memory of its own.
class MeshRank {
 public:
  // Filled with the truth, or with something else, to be loaded into.
  MeshRank(SeededRandom& random, const MeshState& truth, const Spread& spread, int rank, bool filled);
  MeshRank(const MeshRank&) = delete;
  MeshRank& operator=(const MeshRank&) = delete;
  // What differs from the truth, or lies changed beside the views; empty if nothing. Local values are those of this rank, or None where
  // another number of ranks saved them.
  std::string differs_from(const MeshState& truth, bool same_ranks) const;

  StateDict state;

 private:
  struct Place {
    std::string key;
    std::vector<std::byte> memory;
    View view;
    Box box;
  };
  void add_shard(SeededRandom& random, const std::string& key, const MeshTensor& tensor, const Box& box, bool filled, TensorLeaf& leaf);

  std::deque<Place> places_;
  int rank_;
};

}  // namespace tessera
