// tessera/fsdp/context.h: what the units of one model share on a rank: the job, the order in which they are used, and
// what is under way. One wrap scope makes one; the units keep it alive.
// Order       All gathers and reductions are launched from here on the rank's one thread, so that their order is that of the
//             model's forward and backward, the same on every rank.
// Memory      While the units of a chain of blocks compute, the root, the one at work and the one after it are
//             whole; one gradient is whole at a time. Units without any trainable parameter, and the frozen part of others,
//             stay whole from their backward to its end: nothing says earlier that backward is done with them.
#pragma once

#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "tessera/collectives/job.h"
#include "tessera/fsdp/prefetch_order.h"
#include "tessera/fsdp/unit_counters.h"

namespace tessera {

class FlatUnit;
class ModuleUnit;

class FsdpContext {
 public:
  FsdpContext(const Job& job, bool prefetch) : job_(job), prefetch_(prefetch) {}

  const Job& job() const { return job_; }
  Collectives& collectives() const { return job_.collectives(); }
  UnitCounters& counters() { return counters_; }

  void add(ModuleUnit& unit) { units_.push_back(&unit); }
  void remove(ModuleUnit& unit);
  // The unit that holds a module's parameters, or a tensor; null if none does.
  ModuleUnit* owner(const void* of) const;
  void own(const void* what, ModuleUnit& owner) { owners_[what] = &owner; }

  // Around the forward of a unit. That of a root is an iteration, whose order of units is the guess for the next.
  void enter_forward(ModuleUnit& unit);
  void leave_forward(ModuleUnit& unit, bool failed);

  // A gradient has reached the output of `unit`: makes it whole.
  void enter_backward(ModuleUnit& unit);
  // The gradients of `unit` are complete, in its flat gradients.
  void finish_backward(ModuleUnit& unit);
  // Waits for the reductions under way, so that one whole gradient is held at a time.
  void finish_reductions();

  bool syncs() const { return no_sync_ == 0; }
  void begin_no_sync() { ++no_sync_; }
  void end_no_sync() { --no_sync_; }
  bool idle() const;  // neither in forward nor in backward
  void begin_summon() { ++summoned_; }
  void end_summon() { --summoned_; }

 private:
  void make_whole(ModuleUnit& unit, PrefetchOrder* order);
  void begin_backward();
  void end_backward();
  void reduce(ModuleUnit& unit);
  void recover();

  Job job_;
  bool prefetch_;
  UnitCounters counters_;
  std::vector<ModuleUnit*> units_;
  std::unordered_map<const void*, ModuleUnit*> owners_;  // by torch::nn::Module* and c10::TensorImpl*
  std::vector<FlatUnit*> reducing_;
  PrefetchOrder forward_order_;
  PrefetchOrder backward_order_;
  int depth_ = 0;             // forwards under way, one inside another
  bool in_iteration_ = false;  // the outermost of them is a root's
  int64_t backward_ = -1;     // autograd's number of the backward under way
  int no_sync_ = 0;
  int summoned_ = 0;
};

}  // namespace tessera
