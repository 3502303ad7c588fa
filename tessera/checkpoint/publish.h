// tessera/checkpoint/publish.h: the moment a checkpoint begins to exist. The leader's work, after every rank has written.
// Invariants  I1 It appears whole or not at all. I2 Every file it names is synced before it appears, its own name before we
//             say so. I3 Every rank's file was proved, against the plan and against the file system. I4 What stood there
//             before is untouched until then, and is replaced only when asked, and only if it is what stood there when the
//             save began: a leader that comes late cannot put an old save over a newer one.
// Errors      Error(corrupt) if a proof differs from the plan or the file system, or the staging directory holds what nobody planned;
//             Error(exists) that names the save that stands there; Error(io, no_space) from the storage.
//             The staging directory is left for the caller to remove.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "tessera/checkpoint/standing.h"
#include "tessera/plan/save_plan.h"
#include "tessera/storage/storage.h"
#include "tessera/transfer/write_shards.h"

namespace tessera {

// Early word, before gigabytes are written; publish() has the last one. What a save that was cut short left in the target is
// taken away first (reclaim.h). Returns what the save is going to replace. Error(exists) where that was not asked for.
Standing prepare_target(Storage& storage, const Path& target, Replace replace);

// What of a checkpoint's head follows from its plan, but for the save id in it: of the next save by the same plan it is the same.
struct EncodedPlan {
  Bytes metadata;
  Bytes index;  // of the sidecar
};

// `metrics` go into the sidecar, for whoever keeps the best. `replaces` is what prepare_target() saw; without it, whatever stands
// there may be replaced. `encoded`: what an earlier publication of this plan left there, or nothing yet; where there is something, nobody
// looks at the manifest's entries.
void publish(const SavePlan& plan, const std::vector<Proof>& proofs, const std::map<std::string, double>& metrics, Storage& storage,
             const Path& staging, const Path& target, Replace replace, const std::optional<Standing>& replaces = {},
             std::optional<EncodedPlan>* encoded = nullptr);

}  // namespace tessera
