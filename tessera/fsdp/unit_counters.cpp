#include "tessera/fsdp/unit_counters.h"

#include "tessera/fsdp/context.h"
#include "tessera/fsdp/contexts_below.h"

namespace tessera {

UnitCounters unit_counters(ModuleRef model) {
  UnitCounters sum;
  for (const auto& context : contexts_below(model)) {
    const UnitCounters& one = context->counters();
    sum.parameter_bytes += one.parameter_bytes;
    sum.parameter_peak_bytes += one.parameter_peak_bytes;
    sum.gradient_bytes += one.gradient_bytes;
    sum.gradient_peak_bytes += one.gradient_peak_bytes;
    const BufferUse use = context->pool().use();
    sum.held_bytes += use.in_use + use.kept;
    sum.held_peak_bytes += use.peak;
    sum.kept_bytes += use.kept;
    sum.fresh_bytes += use.fresh;
    sum.gathers += one.gathers;
    sum.reductions += one.reductions;
  }
  return sum;
}

void reset_unit_counters(ModuleRef model) {
  for (const auto& context : contexts_below(model)) {
    UnitCounters& counters = context->counters();
    counters = {.parameter_bytes = counters.parameter_bytes,
                .parameter_peak_bytes = counters.parameter_bytes,
                .gradient_bytes = counters.gradient_bytes,
                .gradient_peak_bytes = counters.gradient_bytes};
    context->pool().reset_use();
  }
}

}  // namespace tessera
