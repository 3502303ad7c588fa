// tessera/fsdp/tie.h: two parameters that are one: tie(*head, head->weight, embedding->weight).
// Assigning the member alone (head->weight = embedding->weight) would leave the old tensor registered, sharded and saved.
#pragma once

#include <ATen/core/Tensor.h>

#include "tessera/fsdp/module_ref.h"

namespace tessera {

// Makes `member`, a parameter of `module`, the same tensor as `other`. Before wrapping, and within one unit.
// Throws Error(invalid_argument) where `member` is no parameter of the module, or differs from `other` in shape or dtype.
void tie(ModuleRef module, at::Tensor& member, const at::Tensor& other);

}  // namespace tessera
