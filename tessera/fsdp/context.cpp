#include "tessera/fsdp/context.h"

#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <cmath>
#include <span>
#include <utility>

#include "tessera/base/error.h"
#include "tessera/fsdp/module_unit.h"
#include "tessera/fsdp/unit.h"

namespace tessera {

FsdpContext::FsdpContext(const Job& job, const WrapOptions& options) : job_(job), prefetch_(options.prefetch) {
  if (options.prefetch < 0) throw Error({.code = Code::invalid_argument, .what = "prefetch is " + std::to_string(options.prefetch)});
  if (!(options.gradient_divisor >= 0) || std::isinf(options.gradient_divisor))
    throw Error({.code = Code::invalid_argument, .what = "gradient_divisor is " + std::to_string(options.gradient_divisor)});
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

void FsdpContext::refuse_while_summoned(const char* what) const {
  if (summoned_ == 0) return;
  throw Error({.code = Code::invalid_argument,
               .what = std::string(what) + " while SummonFullParams holds the parameters whole",
               .hint = "let it end first"});
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
  refuse_while_summoned("forward was called");
  if (depth_ == 0) {
    if (backward_ != -1 && backward_ != current_backward()) recover();
    if (backward_ == -1) pool_.begin_iteration();
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
  if (!at::GradMode::is_enabled()) pool_.end_iteration();  // no backward follows
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

void FsdpContext::finish_reductions_of(ModuleUnit& unit) {
  const auto is_of_unit = [&](const FlatUnit* flat) {
    return std::ranges::any_of(unit.units(), [&](const auto& own) { return own.get() == flat; });
  };
  while (std::ranges::any_of(reducing_, is_of_unit)) advance_reductions();
}

void FsdpContext::reduce(ModuleUnit& unit) {
  for (const auto& flat : unit.units()) {
    if (!flat->has_unreduced()) continue;
    flat->launch_reduce(no_sync_among_replicas_ == 0);
    reducing_.push_back(flat.get());
  }
}

void FsdpContext::finish_backward(ModuleUnit& unit) {
  begin_backward();
  // Where a piece of the unit's forward is run again by hand, others of the unit may still be to come.
  const bool in_pieces = inside_part_of_backward() && !unit.options().recompute;
  if (unit.active == 0 && !in_pieces) unit.reshard_trainable();
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
  pool_.end_iteration();
  backward_ = -1;
}

// A backward ended by a throw: what it left under way is waited for, where that still works, and dropped; so are the gradients that NoSync
// kept, since nobody knows which of them hold a part of the one that failed.
void FsdpContext::recover() {
  backward_ = -1;
  reducing_.clear();
  for (ModuleUnit* unit : units_) {
    for (const auto& flat : unit->units()) flat->drop_gradient();
    capture([&] {
      if (unit->active == 0) unit->reshard();
    });
  }
}

}  // namespace tessera
