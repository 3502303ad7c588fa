// tests/crash/tiny_state.h: a state every byte of which follows from its version, and the judgement of what a disk holds of it.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "tessera/layout/state_dict.h"
#include "tessera/storage/storage.h"

namespace tessera {

// What rank `rank` of `ranks` holds: a tensor split by rows, unevenly, one that all have, and the version itself as an object.
struct TinyState {
  TinyState(int rank, int ranks, int64_t version);
  // As a place to load into, of no version.
  TinyState(int rank, int ranks);
  // A save of it is described to the leader, where otherwise each rank plans for itself.
  TinyState& without_layouts();
  bool operator==(const TinyState& other) const { return rows == other.rows && shared == other.shared; }

  std::vector<float> rows;
  std::vector<int64_t> shared;
  StateDict state;
};

// The version of the checkpoint at `path`, if every byte of it is that version's; 0 if there is none.
// Throws what stands in the way of opening and loading it whole, and Error(corrupt) for a mixture.
int64_t version_at(const std::shared_ptr<const Storage>& storage, const Path& path);

}  // namespace tessera
