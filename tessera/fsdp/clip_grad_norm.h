// tessera/fsdp/clip_grad_norm.h: gradients no longer than wanted, as torch.nn.utils.clip_grad_norm_ has it.
#pragma once

#include "tessera/fsdp/module_ref.h"

namespace tessera {

struct ClipOptions {
  double norm_type = 2;  // p of the p-norm, above 0; infinity for the largest element
  bool error_if_nonfinite = false;
};

// Scales all gradients so that their norm over all ranks is at most `max_norm`; returns the norm that they had. What every rank holds,
// in no_shard units and outside units, counts once: as the rank has it on which it is largest, where ranks differ because ignored
// parameters (ignore.h) have gradients that nobody reduced.
// Collective: every rank calls it, after backward. Sums are in float64, added up rank by rank: all ranks have the same norm.
// Throws Error(invalid_argument) for another p, and with error_if_nonfinite, on all ranks and before anything is scaled, where the norm is
// infinite or not a number.
double clip_grad_norm_(ModuleRef model, double max_norm, const ClipOptions& options = {});

}  // namespace tessera
