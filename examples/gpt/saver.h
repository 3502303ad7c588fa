// examples/gpt/saver.h: saves steps, now or behind the trainer's back, and resumes from the latest. Rank 0 says what happens.
// Collective  All but before_change().
#pragma once

#include <optional>
#include <utility>

#include "examples/gpt/options.h"
#include "tessera/checkpoint/checkpoints.h"
#include "tessera/libtorch/state.h"

class Saver {
 public:
  // In options.dir, as options say. Both outlive this.
  Saver(const tessera::Job& job, const Options& options);
  // The step that was loaded; 0 where there is none.
  int64_t resume(tessera::State& state);
  void save(int64_t step, double loss, tessera::State& state);
  // The tensors are about to change.
  void before_change();
  // Waits for the save in the background.
  void finish();
  // Saves the step in the time that is left.
  void leave(int64_t step, double loss, tessera::State& state, tessera::Deadline deadline);

 private:
  const tessera::Job& job_;
  const Options& options_;
  tessera::Checkpoints steps_;
  std::optional<std::pair<int64_t, tessera::PendingSave>> pending_;
};
