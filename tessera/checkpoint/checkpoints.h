// tessera/checkpoint/checkpoints.h: a root of steps that a job saves to and resumes from.
// Collective  Every rank makes one and calls the same functions in the same order; all return the same, or throw the same.
// Retention   After a step is published, steps older than the newest `keep_last` are removed, never before. What is no
//             step in the root is never touched.
// Threads     One thread a rank; saves in the background have their own.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "tessera/checkpoint/async_save.h"
#include "tessera/checkpoint/catalog.h"
#include "tessera/checkpoint/load.h"
#include "tessera/checkpoint/save.h"
#include "tessera/checkpoint/verify.h"

namespace tessera {

struct CheckpointsOptions {
  int keep_last = 0;  // 0 keeps all
  // async_save: the most memory for copies of the state on this rank; 0 takes what the state takes (async_save.h).
  int64_t staging_bytes = 0;
};

class Checkpoints {
 public:
  // A directory of the local file system; it need not exist yet. `comm` outlives this.
  Checkpoints(Comm& comm, std::string root, const CheckpointsOptions& options = {});
  Checkpoints(Comm& comm, std::shared_ptr<Storage> storage, const CheckpointsOptions& options = {});

  // The newest step that verify() finds nothing wrong with, looking as deep as asked. A newer one that is damaged is passed over;
  // `skipped()` tells which and why. Nothing where there is none. Error(io) where the storage cannot be read: that is
  // no damage.
  std::optional<Step> latest(Depth depth = Depth::names_and_sizes);
  // What the last latest() passed over: "step-00000012: file ends early".
  const std::vector<std::string>& skipped() const { return skipped_; }

  SaveReport save(Step step, const StateDict& state, const SaveOptions& options = {});
  LoadReport load(Step step, StateDict& state, const LoadOptions& options = {});
  // Begins a save in the background (async_save.h). Whatever is called next here first waits for it, and throws what it failed with if
  // nobody waited on the handle; the destructor waits too.
  PendingSave async_save(Step step, StateDict state, const AsyncOptions& options = {});
  // Ends what is under way: published by the deadline, or given up, the steps before still standing. True if nothing was given up.
  // For whoever was told to go (stop_signal.h).
  bool finish(Deadline deadline);
  template <Stateful T>
  PendingSave async_save(Step step, const T& object, const AsyncOptions& options = {}) {
    return async_save(step, const_cast<T&>(object).state_dict(), options);
  }
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
  void retain(Comm& comm);

  Comm& comm_;
  std::shared_ptr<Storage> storage_;
  CheckpointsOptions options_;
  std::vector<std::string> skipped_;
  std::unique_ptr<BackgroundSaver> background_;  // from the first async_save on
};

}  // namespace tessera
