#include "tessera/fsdp/ignore.h"

#include <torch/nn/module.h>

#include <string>

#include "tessera/base/error.h"
#include "tessera/fsdp/context.h"
#include "tessera/fsdp/walk.h"
#include "tessera/fsdp/wrapper.h"

namespace tessera {
namespace {

Error taken_already(const std::string& what) {
  return Error({.code = Code::invalid_argument,
                .what = "ignore(): " + what + " belongs to a unit already",
                .hint = "ignore it before it, or the module around it, is wrapped"});
}

void add(FsdpContext& context, const at::Tensor& tensor, const std::string& name) {
  if (!tensor.defined()) return;
  if (context.owner(tensor.unsafeGetTensorImpl()) != nullptr) throw taken_already(name);
  context.ignored().add(tensor);
}

}  // namespace

at::Tensor ignore(const at::Tensor& tensor) {
  if (const WrapScope* scope = open_scope()) add(*scope->context, tensor, "a parameter");
  return tensor;
}

void ignore_all_of(ModuleRef module) {
  const WrapScope* scope = open_scope();
  if (scope == nullptr) return;
  FsdpContext& context = *scope->context;
  walk(*module, [&](const WalkStep& step) {
    const bool taken = step.unit != nullptr || context.owner(&step.module) != nullptr || (step.wrapper != nullptr && step.wrapper->unit());
    if (taken) throw taken_already(step.path.empty() ? "the module" : "module " + step.path);
    for (const auto& parameter : step.module.named_parameters(/*recurse=*/false))
      add(context, parameter.value(), "parameter " + dotted(step.path, parameter.key()));
    for (const auto& buffer : step.module.named_buffers(/*recurse=*/false))
      add(context, buffer.value(), "buffer " + dotted(step.path, buffer.key()));
  });
}

}  // namespace tessera
