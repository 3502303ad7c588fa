// tessera/fsdp/unit_counters.h: what a model's units hold on this rank besides their shards, and how often they talked.
#pragma once

#include <cstdint>

#include "tessera/fsdp/module_ref.h"

namespace tessera {

struct UnitCounters {
  int64_t parameter_bytes = 0;  // full buffers of sharded units
  int64_t parameter_peak_bytes = 0;
  int64_t gradient_bytes = 0;  // gradients of full buffers
  int64_t gradient_peak_bytes = 0;
  // Of the CPU's memory: both of these, what they are reduced into, and what is kept of freed ones for the next (buffer_pool.h).
  int64_t held_bytes = 0;
  int64_t held_peak_bytes = 0;
  int64_t kept_bytes = 0;
  int64_t fresh_bytes = 0;  // taken from the system, in all
  int64_t gathers = 0;
  int64_t reductions = 0;
};
UnitCounters unit_counters(ModuleRef model);
// Peaks start again from what is held now; counts from 0.
void reset_unit_counters(ModuleRef model);

}  // namespace tessera
