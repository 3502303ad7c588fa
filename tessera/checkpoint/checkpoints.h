// tessera/checkpoint/checkpoints.h: a root of steps that a job saves to and resumes from.
// Collective  Every rank makes one and calls the same functions in the same order; all return the same, or throw the same.
// Retention   After a step is published and looked at, the steps that no rule keeps are removed (retention.h), never before. What is no
//             step in the root is never touched.
// Leftovers   of saves that were cut short stay until reclaim() or `tessera gc` is asked for.
// Threads     One thread a rank; saves in the background have their own.
#pragma once

#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "tessera/checkpoint/async_save.h"
#include "tessera/checkpoint/catalog.h"
#include "tessera/checkpoint/load.h"
#include "tessera/checkpoint/reclaim.h"
#include "tessera/checkpoint/retention.h"
#include "tessera/checkpoint/save.h"
#include "tessera/checkpoint/verify.h"

namespace tessera {

// Which steps stay; without any of these, all do.
struct CheckpointsOptions {
  int keep_last = 0;    // the newest so many
  Step keep_every = 0;  // steps that this divides
  std::optional<KeepBest> keep_best = {};  // by a metric of SaveOptions
  // async_save: the most memory for copies of the state on this rank; 0 takes what the state takes (async_save.h).
  int64_t staging_bytes = 0;
};

class Checkpoints {
 public:
  // A directory of the local file system; it need not exist yet. `comm` outlives this.
  Checkpoints(Comm& comm, std::string root, const CheckpointsOptions& options = {});
  Checkpoints(Comm& comm, std::shared_ptr<Storage> storage, const CheckpointsOptions& options = {});
  Checkpoints(Checkpoints&&) = delete;  // saves in the background know where it is

  // The newest step that verify() finds nothing wrong with, looking as deep as asked. A newer one that is damaged is passed over;
  // `skipped()` tells which and why; one that cannot be read counts as damaged. Nothing where there is no step, or all are damaged.
  // Error(io, …) where the root cannot be listed, or nothing sound was found and steps could not be read: to start afresh is then not for
  // us to choose.
  std::optional<Step> latest(Depth depth = Depth::names_and_sizes);
  // What the last latest() passed over: "step-00000012: file ends early".
  const std::vector<std::string>& skipped() const { return skipped_; }

  SaveReport save(Step step, const StateDict& state, const SaveOptions& options = {});
  LoadReport load(Step step, StateDict& state, const LoadOptions& options = {});
  // Begins a save in the background (async_save.h). Whatever is called next here first waits for it, and throws what it failed with if
  // nobody waited on the handle; the destructor waits too.
  PendingSave async_save(Step step, StateDict state, const AsyncOptions& options = {});
  // Makes and touches this rank's memory for copies of so many bytes, within staging_bytes, so that the first async_save copies as fast as
  // the next one. Every rank calls it, before its first async_save.
  void warm(int64_t bytes);
  // Ends what is under way: published by the deadline, or given up, the steps before still standing. True if nothing was given up.
  // For whoever was told to go (stop_signal.h).
  bool finish(Deadline deadline);
  template <Stateful T>
  PendingSave async_save(Step step, const T& object, const AsyncOptions& options = {}) {
    return async_save(step, const_cast<T&>(object).state_dict(), options);
  }

  // A pinned step is kept whatever the rules say, until it is unpinned: by these, or by the file `step-%08d.pinned` beside it.
  void pin(Step step);
  void unpin(Step step);
  std::set<Step> pinned();

  // Removes what saves that were cut short left in the root. Safe while other jobs save there, by age (reclaim.h); no save of this
  // job may be at work.
  ReclaimReport reclaim(const ReclaimOptions& options = {});

  template <Stateful T>
  SaveReport save(Step step, const T& object, const SaveOptions& options = {}) {
    return save(step, const_cast<T&>(object).state_dict(), options);
  }
  template <Stateful T>
  LoadReport load(Step step, T& object, const LoadOptions& options = {}) {
    StateDict state = object.state_dict();
    LoadReport report = load(step, state, options);
    apply_loaded(comm_, [&] { object.load_state_dict(state); });
    return report;
  }

 private:
  void settle();
  BackgroundSaver& in_background();
  SaveOptions with_plans(SaveOptions options) const;
  std::vector<std::string> retain(Comm& comm, Step published);

  Comm& comm_;
  std::shared_ptr<Storage> storage_;
  const Retention rules_;
  const int64_t staging_bytes_;
  const std::shared_ptr<PlanCache> plans_;
  std::vector<std::string> skipped_;
  std::unique_ptr<BackgroundSaver> background_;  // from the first async_save on
};

}  // namespace tessera
