// tessera/fsdp/clip_grad_norm.h: gradients no longer than wanted, as torch.nn.utils.clip_grad_norm_ has it (norm 2).
#pragma once

#include "tessera/fsdp/module_ref.h"

namespace tessera {

// Scales all gradients so that their norm over all ranks is at most `max_norm`; returns the norm that they had.
// Collective: every rank calls it, after backward. Sums are in float64, rank by rank.
double clip_grad_norm_(ModuleRef model, double max_norm);

}  // namespace tessera
