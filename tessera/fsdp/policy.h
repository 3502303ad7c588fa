// tessera/fsdp/policy.h: which of the modules that wrap() is given become units.
//   fsdp(job, make, {.policy = wrap_type<BlockImpl>()})
//   fsdp(job, make, {.policy = any_of({wrap_from(1'000'000), wrap_named([](std::string_view name) { return name == "head"; })})})
// LibTorch gives no way to put a module into a finished model's place, so a policy decides where the model calls wrap(), inside out: what
// it leaves alone stays part of the unit around it. It must decide alike on every rank.
#pragma once

#include <torch/nn/module.h>

#include <string_view>
#include <vector>

#include "tessera/fsdp/strategy.h"

namespace tessera {

// Modules of one of these types: `Impl`s, not holders.
template <class... M>
WrapPolicy wrap_type() {
  return [](const WrapCandidate& candidate) { return (... || (dynamic_cast<const M*>(&candidate.module) != nullptr)); };
}
// Modules with so many elements of their own that no inner unit has taken.
WrapPolicy wrap_from(int64_t numel);
// Modules whose name at their wrap() is one of those: wrap(head, {.name = "head"}).
WrapPolicy wrap_named(std::function<bool(std::string_view name)> is_one);
WrapPolicy any_of(std::vector<WrapPolicy> policies);

}  // namespace tessera
