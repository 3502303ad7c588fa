// tessera/checkpoint/plan_cache.h: what a rank keeps of the last plan, so that the next save of a state that looks the same needs none.
// Promises    A plan is used again only where every rank says that it still describes what the plan was made for: the same keys, paths,
//             dtypes, shapes, boxes and lengths of objects, on as many ranks. Whatever else the cache holds, a save plans afresh.
// Memory      This rank's list of items; on the leader everyone's, and from the first publication on the encoded `.metadata`.
// Threads     Belongs to one rank, and serves one save at a time.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "tessera/base/digest.h"
#include "tessera/checkpoint/publish.h"
#include "tessera/plan/save_plan.h"

namespace tessera {

struct PlanCache {
  struct Part {
    Digest shape;  // of this rank's description
    Digest plan;   // the plan's name: the digest of all ranks' shapes
    RankWrites writes;
  };
  std::optional<Part> mine = {};

  struct Whole {
    std::vector<Digest> shapes;  // by rank
    Digest name;
    int64_t total_bytes = 0;
    SavePlan plan;  // its manifest has entries until `encoded` stands for them
    std::optional<EncodedPlan> encoded = {};
    // What ranks that keep their part need not say again when another one's shape changed.
    std::optional<Digest> table = {};          // of the layouts, where all ranks' are equal
    std::vector<Description> rank_local = {};  // by rank: objects that the table has not
  };
  std::optional<Whole> whole = {};  // on the leader
};

}  // namespace tessera
