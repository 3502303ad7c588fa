// tessera/collectives/gloo_collectives.h: ranks that are processes, over c10d's Gloo.
// Needs no header of gloo: the wheel's libtorch holds the code, and its process group names gloo's types without holding one.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <torch/csrc/distributed/c10d/Store.hpp>

#include "tessera/base/deadline.h"
#include "tessera/collectives/collectives.h"

namespace tessera {

// Collective: every rank makes one over the same store. `control_failure` says what the control plane knows of lost ranks: Gloo itself
// sees a closed connection and cannot say whose; and it ends the wait for a rank that hangs.
std::unique_ptr<Collectives> gloo_collectives(c10::intrusive_ptr<c10d::Store> store, int rank, int size, Milliseconds deadline,
                                              std::function<std::optional<Fault>()> control_failure);

}  // namespace tessera
