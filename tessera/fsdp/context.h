// tessera/fsdp/context.h: what the units of one model share on a rank: the job, the order in which they are used, and
// what is under way. One wrap scope makes one; the units keep it alive.
// Order       All gathers and reductions are launched from here on the rank's one thread, so that their order is that of the
//             model's forward and backward, the same on every rank.
// Memory      While the units of a chain of blocks compute, the root, the one at work and those gathered ahead (one, unless options say
//             otherwise) are whole; one gradient is whole at a time. Units without any trainable parameter, and the frozen part of others,
//             stay whole from their backward to its end: nothing says earlier that backward is done with them. What is freed is kept for
//             the next, within what was in use at once (buffer_pool.h).
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "tessera/collectives/job.h"
#include "tessera/collectives/mesh.h"
#include "tessera/fsdp/buffer_pool.h"
#include "tessera/fsdp/ignored_tensors.h"
#include "tessera/fsdp/prefetch_order.h"
#include "tessera/fsdp/strategy.h"
#include "tessera/fsdp/unit_counters.h"

namespace tessera {

class FlatUnit;
class ModuleUnit;

class FsdpContext {
 public:
  // Collective where options.shards says that there is a mesh.
  FsdpContext(const Job& job, const WrapOptions& options);

  const Job& job() const { return job_; }
  Collectives& collectives() const { return job_.collectives(); }
  // Among whom a unit's buffer is split, and who hold the same part of it; null where nobody does.
  // Errors  Error(invalid_argument) for a hybrid strategy where no number of shards was given.
  Collectives* shard_group(Strategy strategy) const;
  Collectives* replicate_group(Strategy strategy) const;
  UnitCounters& counters() { return counters_; }
  // Of the units' whole buffers and gradients.
  BufferPool& pool() { return pool_; }

  void add(ModuleUnit& unit) { units_.push_back(&unit); }
  void remove(ModuleUnit& unit);
  // The unit that holds a module's parameters, or a tensor; null if none does.
  ModuleUnit* owner(const void* of) const;
  void own(const void* what, ModuleUnit& owner) { owners_[what] = &owner; }
  // What units leave alone.
  IgnoredTensors& ignored() { return ignored_; }
  const IgnoredTensors& ignored() const { return ignored_; }

  // Around the forward of a unit. That of a root is an iteration, whose order of units is the guess for the next.
  void enter_forward(ModuleUnit& unit);
  void leave_forward(ModuleUnit& unit, bool failed);

  // A gradient has reached the output of `unit`: makes it whole.
  void enter_backward(ModuleUnit& unit);
  // The gradients of `unit` are complete, in its flat gradients.
  void finish_backward(ModuleUnit& unit);
  // Takes the reductions under way one step further each, so that one whole gradient is held at a time.
  void advance_reductions();

  // Until none of the unit's is under way.
  void finish_reductions_of(ModuleUnit& unit);

  void begin_no_sync(bool among_replicas_only) { ++(among_replicas_only ? no_sync_among_replicas_ : no_sync_); }
  void end_no_sync(bool among_replicas_only) { --(among_replicas_only ? no_sync_among_replicas_ : no_sync_); }
  bool idle() const;  // neither in forward nor in backward
  // Throws Error(invalid_argument).
  void refuse_while_summoned(const char* what) const;
  void begin_summon() { ++summoned_; }
  void end_summon() { --summoned_; }

 private:
  void make_whole(ModuleUnit& unit, PrefetchOrder* order);
  void begin_backward();
  void end_backward();
  void reduce(ModuleUnit& unit);
  void finish_reductions();
  void recover();
  const Mesh& mesh() const;

  Job job_;
  std::optional<Mesh> mesh_;
  int prefetch_;
  UnitCounters counters_;
  BufferPool pool_;
  std::vector<ModuleUnit*> units_;
  std::unordered_map<const void*, ModuleUnit*> owners_;  // by torch::nn::Module* and c10::TensorImpl*
  IgnoredTensors ignored_;
  std::vector<FlatUnit*> reducing_;
  PrefetchOrder forward_order_;
  PrefetchOrder backward_order_;
  int depth_ = 0;             // forwards under way, one inside another
  bool in_iteration_ = false;  // the outermost of them is a root's
  int64_t backward_ = -1;     // autograd's number of the backward under way
  int no_sync_ = 0;
  int no_sync_among_replicas_ = 0;
  int summoned_ = 0;
};

}  // namespace tessera
