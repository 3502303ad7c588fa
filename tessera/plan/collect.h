// tessera/plan/collect.h: what many ranks say of a state, key by key.
// Errors      Error(mismatch) that names the key and ranks where ranks disagree: dtype, shape, path, an object's content; a box's content,
//             where the descriptions have its digest. Error(invalid_argument) for boxes and shapes that no tensor can have.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "tessera/plan/description.h"
#include "tessera/plan/plan_builder.h"

namespace tessera {

// A rank's part of a key.
struct Held {
  int rank = 0;
  const Part* part = nullptr;
};

// A key as all ranks together describe it: those that have it, ascending.
struct Collected {
  const std::string* key = nullptr;
  std::vector<Held> held;
};

// By key, ascending. Borrows the descriptions.
std::vector<Collected> collect(std::span<const Description> ranks);

// Every box of a tensor, in the order of boxes; replicas by rank. Arithmetic on them is safe.
std::vector<RankBox> held_boxes(const Collected& all);

// Borrows `all` until finish().
void add(PlanBuilder& builder, const Collected& all);

}  // namespace tessera
