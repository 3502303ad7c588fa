#include "tessera/fsdp/context.h"

#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <span>
#include <utility>

#include "tessera/base/error.h"
#include "tessera/fsdp/module_unit.h"
#include "tessera/fsdp/unit.h"

namespace tessera {

FsdpContext::FsdpContext(const Job& job, const WrapOptions& options) : job_(job), prefetch_(options.prefetch) {
  if (options.prefetch < 0) throw Error({.code = Code::invalid_argument, .what = "prefetch is " + std::to_string(options.prefetch)});
  if (options.shards != 0) mesh_ = make_mesh(job, {.shards = options.shards});
}

const Mesh& FsdpContext::mesh() const {
  if (mesh_) return *mesh_;
  throw Error({.code = Code::invalid_argument,
               .what = "a hybrid strategy without a number of shards",
               .hint = "say in the outermost scope how many neighbours hold a replica together: .shards = 8"});
}

Collectives* FsdpContext::shard_group(Strategy strategy) const {
  if (is_hybrid(strategy)) return &mesh().shard_group();
  return strategy == Strategy::no_shard ? nullptr : &collectives();
}

Collectives* FsdpContext::replicate_group(Strategy strategy) const {
  if (is_hybrid(strategy)) return &mesh().replicate_group();
  return strategy == Strategy::no_shard ? &collectives() : nullptr;
}

void FsdpContext::remove(ModuleUnit& unit) {
  std::erase(units_, &unit);
  std::erase_if(owners_, [&](const auto& owned) { return owned.second == &unit; });
  forward_order_.forget();
  backward_order_.forget();
}

ModuleUnit* FsdpContext::owner(const void* of) const {
  const auto found = owners_.find(of);
  return found == owners_.end() ? nullptr : found->second;
}

bool FsdpContext::idle() const { return depth_ == 0 && (backward_ == -1 || backward_ != current_backward()); }

// Gathers `unit` if it is not whole, and starts on those that followed it last time.
void FsdpContext::make_whole(ModuleUnit& unit, PrefetchOrder* order) {
  if (unit.whole()) {
    unit.launch_unshard();  // does something only where the shard has changed since, or another precision is wanted
    unit.finish_unshard();
    return;
  }
  const std::span<ModuleUnit* const> next = order == nullptr ? std::span<ModuleUnit* const>() : order->after(unit, prefetch_);
  unit.launch_unshard();
  unit.finish_unshard();
  for (ModuleUnit* ahead : next) {
    if (!ahead->whole()) ahead->launch_unshard();
  }
}

void FsdpContext::enter_forward(ModuleUnit& unit) {
  if (summoned_ > 0) {
    throw Error({.code = Code::invalid_argument,
                 .what = "forward was called while SummonFullParams holds the parameters whole",
                 .hint = "let it end first"});
  }
  if (depth_ == 0) {
    if (backward_ != -1 && backward_ != current_backward()) recover();
    in_iteration_ = unit.is_root();
    if (in_iteration_) forward_order_.begin();
  }
  unit.check_identity();
  make_whole(unit, in_iteration_ ? &forward_order_ : nullptr);
  if (at::GradMode::is_enabled()) unit.attach();
  ++unit.active;
  ++depth_;
}

void FsdpContext::leave_forward(ModuleUnit& unit, bool failed) {
  --depth_;
  --unit.active;
  // A forward inside a backward (recomputation) is needed whole by what follows in that backward.
  const bool in_backward = backward_ != -1 && backward_ == current_backward();
  // The root is the first that backward needs: freeing it would be for nothing.
  const bool keep = in_backward || (at::GradMode::is_enabled() && ((unit.is_root() && depth_ == 0) || !unit.reshards_after_forward()));
  if (unit.active == 0 && (failed || !keep)) unit.reshard();
  if (depth_ > 0 || in_backward) return;
  for (ModuleUnit* other : units_) {
    // What was gathered ahead and then not used, or was left behind by a throw.
    if (other == &unit || other->active > 0) continue;
    if (failed || !other->whole()) other->reshard();
  }
}

void FsdpContext::begin_backward() {
  const int64_t now = current_backward();
  if (backward_ == now) return;
  if (backward_ != -1) recover();
  backward_ = now;
  backward_order_.begin();
  at_end_of_backward([this] { end_backward(); });
}

void FsdpContext::enter_backward(ModuleUnit& unit) {
  begin_backward();
  unit.check_identity();  // other memory since forward would give wrong gradients
  make_whole(unit, &backward_order_);
}

void FsdpContext::advance_reductions() {
  // A unit whose step throws is done with.
  for (FlatUnit* unit : std::exchange(reducing_, {})) {
    if (!unit->advance_reduce()) reducing_.push_back(unit);
  }
}

void FsdpContext::finish_reductions() {
  while (!reducing_.empty()) advance_reductions();
}

void FsdpContext::reduce(ModuleUnit& unit) {
  for (const auto& flat : unit.units()) {
    if (!flat->has_unreduced()) continue;
    // A second gradient of the same backward, as of a unit that runs forward again in pieces.
    if (std::ranges::find(reducing_, flat.get()) != reducing_.end()) finish_reductions();
    flat->launch_reduce(no_sync_among_replicas_ == 0);
    reducing_.push_back(flat.get());
  }
}

void FsdpContext::finish_backward(ModuleUnit& unit) {
  begin_backward();
  if (unit.active == 0) unit.reshard_trainable();
  if (no_sync_ == 0) reduce(unit);
}

// Gradients that no_sync left in units which this backward did not reach, then whatever is still whole.
void FsdpContext::end_backward() {
  finish_reductions();
  if (no_sync_ == 0 && no_sync_among_replicas_ == 0) {
    for (ModuleUnit* unit : units_) reduce(*unit);
    finish_reductions();
  }
  for (ModuleUnit* unit : units_) {
    if (unit->active == 0) unit->reshard();
  }
  backward_ = -1;
}

// A backward ended by a throw: what it left under way is waited for, where that still works, and dropped.
void FsdpContext::recover() {
  backward_ = -1;
  reducing_.clear();
  for (ModuleUnit* unit : units_) {
    for (const auto& flat : unit->units()) flat->drop_gradient();
    if (unit->active == 0) unit->reshard();
  }
}

}  // namespace tessera
