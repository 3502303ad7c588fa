// tessera/fsdp/ignore.h: parameters that take no part in sharding, as ignored_modules and ignored_states of stock's FSDP1 and
// ignored_params of FSDP2.
//   scale = ignore(register_parameter("scale", at::ones({})));
//   adapter = register_module("adapter", ignore(Adapter(config)));  // its parameters and buffers, with those of modules inside
// They stay what they are without sharding: parameters of their modules, whole on every rank, readable at any time, seen by
// model->parameters() and by optimizers over the model. No policy counts their elements.
// When        Before a unit takes them: in the constructor, or, where no inner unit has them, in the function that fsdp() is given.
//             Only while a scope is open; outside any it does nothing. An ignored tensor is ignored under each of its names.
// Gradients   Each rank has its own: nobody reduces them. Where ranks see different data and are to stay alike, average them before
//             the step. clip_grad_norm_ (clip_grad_norm.h) counts them as it does all that lies outside units.
// Precision   Parameters, and buffers, keep the dtype that they were built with, whatever the unit around them computes in.
// Values      Ranks must ignore the same parameters; that these are equal is not checked (nor is it in stock). A checkpoint has
//             rank 0's, under their names in every kind, and gives them to all ranks.
// Errors      Throws Error(invalid_argument) where a unit has taken a parameter already.
#pragma once

#include <ATen/core/Tensor.h>

#include <memory>

#include "tessera/fsdp/module_ref.h"

namespace tessera {

// Returns what it is given.
at::Tensor ignore(const at::Tensor& tensor);

// All that `module` has now.
void ignore_all_of(ModuleRef module);

// The same of what a shared_ptr or a holder holds, which it returns.
template <class M>
std::shared_ptr<M> ignore(std::shared_ptr<M> module) {
  ignore_all_of(module);
  return module;
}
template <class Holder>
  requires requires(const Holder& holder) {
    typename Holder::ContainedType;
    holder.ptr();
  }
Holder ignore(Holder module) {
  ignore_all_of(module);
  return module;
}

}  // namespace tessera
