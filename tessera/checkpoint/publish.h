// tessera/checkpoint/publish.h: the moment a checkpoint begins to exist. The leader's work, after every rank has written.
// Invariants  I1 It appears whole or not at all. I2 Every file it names is synced before it appears, its own name before we
//             say so. I3 Every rank's file was proved, against the plan and against the file system. I4 What stood there
//             before is untouched until then, and is replaced only when asked.
// Errors      Error(corrupt) if a proof differs from the plan or the file system, Error(exists, io, no_space) from the storage.
//             The staging directory is left for the caller to remove.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "tessera/plan/save_plan.h"
#include "tessera/storage/storage.h"
#include "tessera/transfer/write_shards.h"

namespace tessera {

// `metrics` go into the sidecar, for whoever keeps the best.
void publish(const SavePlan& plan, const std::vector<Proof>& proofs, const std::map<std::string, double>& metrics, Storage& storage,
             const Path& staging, const Path& target, Replace replace);

}  // namespace tessera
