// tessera/checkpoint/save_steps.h: what every save does, whoever copies the state: agree on a plan, stage, write, prove, publish. Behind
// save() and async_save(), which differ in where a rank's description and its file come from.
#pragma once

#include <functional>

#include "tessera/checkpoint/save.h"
#include "tessera/plan/save_plan.h"
#include "tessera/transfer/write_shards.h"

namespace tessera {

struct SaveSteps {
  // This rank's part of the state. What it throws, every rank throws.
  std::function<const Described&()> describe;
  // Writes this rank's file in the staging directory, in the way that was chosen, and answers for it.
  std::function<Proof(const RankWrites& writes, const Path& staging, const WriteChoice& choice, const Progress& progress)> write;
};

// Collective, with the promises of save().
SaveReport save_in_steps(Comm& comm, Storage& storage, const Path& target, const SaveSteps& steps, const SaveOptions& options);

}  // namespace tessera
