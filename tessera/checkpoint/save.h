// tessera/checkpoint/save.h: all ranks save one state together.
// Collective  Every rank calls it with its own part of the state and the same target; all return, or all throw the same Error.
// Promises    I1-I4 of publish.h. When it returns, the checkpoint is whole, durable and proved on every rank.
// Errors      Error(exists) where a checkpoint (or anything else) stands already; what plan/ and storage/ say. After an error nothing has
//             appeared and the staging directory is gone, unless the leader was lost; but where another rank was lost in the very moment
//             of publishing, or the last sync failed, the step may stand, whole: latest() tells.
// Memory      A few slabs a rank, whatever the size of the state.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "tessera/base/io_options.h"
#include "tessera/comm/comm.h"
#include "tessera/layout/state_dict.h"
#include "tessera/storage/storage.h"

namespace tessera {

struct PlanCache;

struct SaveOptions {
  Replace replace = Replace::never;
  // What the trainer measured at this step, kept in the sidecar; the leader's count. Retention can keep the best by one of them.
  std::map<std::string, double> metrics = {};
  // Holds the replicas of each box against each other, by digest, and refuses those that disagree: Error(mismatch) with key, box and
  // ranks. Without it the owner's bytes are saved. Costs one more round and a pass over what more than one rank holds.
  bool compare_replicas = false;
  // What this rank keeps of its last plan (plan_cache.h): give the same one to each save of a state, and those after the first neither
  // describe it nor plan. Checkpoints has one of its own. Null plans afresh.
  std::shared_ptr<PlanCache> plans = {};
  IoOptions io = {};
  // Told on this rank when a phase of the save begins: plan, write, publish. What it throws is ignored.
  std::function<void(Phase)> on_phase = {};
};

// How the ranks of a save came to its plan.
enum class Planned : uint8_t {
  described,  // each told the leader what it holds, and was told what to write
  derived,    // each planned for itself, from layouts that are the same on all
  reused,     // it is the plan of the save before
};

struct SaveReport {
  std::string save_id;
  Planned planned = Planned::described;
  int64_t total_bytes = 0;     // of all ranks' files
  int64_t rank_bytes = 0;      // of this rank's
  int64_t verified_bytes = 0;  // of all ranks' files: those of which the leader has a digest, and a length that the file system confirmed
  double seconds = 0;
  double stall_seconds = 0;  // of these, until the trainer could change its tensors: all of them, but for async_save
  // Where they went on this rank. `write_seconds` includes the copy of async_save, and the wait for the slowest rank.
  double plan_seconds = 0;
  double write_seconds = 0;
  double publish_seconds = 0;
  WriteChoice write = {};  // how this rank wrote, and why so; with what was measured to be the most, if it was
  int64_t peak_staging_bytes = 0;  // async_save: the most memory that copies of the state took at once on this rank
  bool in_waves = false;  // async_save: the state did not fit the budget, so that the copy waited for the disk
  // What went wrong afterwards and is no failure of the save: older steps that could not be removed, or are damaged.
  std::vector<std::string> warnings = {};
};
// In one line, for a log: bytes, rates, seconds by phase, stall, staging, how it was planned and written.
std::string describe(const SaveReport& report);

SaveReport save(Comm& comm, Storage& storage, const Path& target, const StateDict& state, const SaveOptions& options = {});
// To a directory of the local file system, which may exist if it is empty.
SaveReport save(Comm& comm, const std::string& directory, const StateDict& state, const SaveOptions& options = {});

template <Stateful T>
SaveReport save(Comm& comm, const std::string& directory, const T& object, const SaveOptions& options = {}) {
  return save(comm, directory, const_cast<T&>(object).state_dict(), options);
}

}  // namespace tessera
