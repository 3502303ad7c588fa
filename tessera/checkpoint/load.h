// tessera/checkpoint/load.h: all ranks load one checkpoint together, whatever number of ranks wrote it.
// Collective  Every rank calls it with its own state; all return, or all throw the same Error.
// Formats     All that checkpoint/open.h reads.
// Promises    Names, shapes, dtypes and every item that is needed are checked on all ranks before the first byte of any
//             destination changes. Each rank reads only the bytes that it needs.
// Errors      Error(mismatch, not_found) where state and checkpoint differ, Error(corrupt, unsupported, io) with file and offset.
//             An error in the read phase is a LoadError, which lists the tensors of this rank whose content is undefined now; with
//             LoadOptions::staged there are none.
// Shared      Leaves that are the same memory (tied tensors) must be equal in the checkpoint: Error(mismatch), found once both are read;
//             the second takes memory of its own until then. Destinations that overlap in any other way, and expanded ones, are
//             Error(invalid_argument) before a byte changes. What does not overlap may have any strides.
// Checks      Where the checkpoint has a sidecar, every block that is touched is held against its digest before load returns; else the
//             archives' CRC-32 where items are read whole. The report says how many bytes nothing vouched for.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "tessera/comm/comm.h"
#include "tessera/layout/state_dict.h"
#include "tessera/plan/load_plan.h"
#include "tessera/storage/storage.h"

namespace tessera {

// The same on every rank: the union of what they found, sorted.
struct LoadReport {
  std::vector<std::string> missing;     // wanted, not in the checkpoint; their values are as they were
  std::vector<std::string> unexpected;  // in the checkpoint, wanted by no rank
  std::vector<std::string> reshaped;    // of another shape; their values are as they were
  std::vector<std::string> cast;        // converted from another dtype
  std::vector<std::string> reset;       // rank-local values of another number of ranks: now None, to start afresh
  int64_t read_bytes = 0;               // of tensor data, by all ranks
  int64_t unverified_bytes = 0;         // of these, not covered by a digest or checksum
  double seconds = 0;
};

class LoadError : public Error {
 public:
  LoadError(Fault fault, std::vector<std::string> undefined);
  // Keys of this rank's state.
  const std::vector<std::string>& undefined() const { return undefined_; }

 private:
  std::vector<std::string> undefined_;
};

// Fills the memory that `state` describes and replaces its objects. RankLocal values that cannot be kept become None.
LoadReport load(Comm& comm, const Storage& storage, const Path& directory, StateDict& state, const LoadOptions& options = {});
// From a directory of the local file system.
LoadReport load(Comm& comm, const std::string& directory, StateDict& state, const LoadOptions& options = {});

// Loads, then hands the state to its owner on every rank.
template <Stateful T>
LoadReport load(Comm& comm, const std::string& directory, T& object, const LoadOptions& options = {});

// Runs `apply` on every rank after a load; what one throws, all throw.
void apply_loaded(Comm& comm, const std::function<void()>& apply);

template <Stateful T>
LoadReport load(Comm& comm, const std::string& directory, T& object, const LoadOptions& options) {
  StateDict state = object.state_dict();
  LoadReport report = load(comm, directory, state, options);
  apply_loaded(comm, [&] { object.load_state_dict(state); });
  return report;
}

}  // namespace tessera
