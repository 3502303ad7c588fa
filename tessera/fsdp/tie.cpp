#include "tessera/fsdp/tie.h"

#include "tessera/base/error.h"
#include "tessera/fsdp/module_access.h"

namespace tessera {

void tie(ModuleRef module, at::Tensor& member, const at::Tensor& other) {
  for (auto& parameter : parameters_of(*module)) {
    if (!member.defined() || parameter.value().unsafeGetTensorImpl() != member.unsafeGetTensorImpl()) continue;
    if (!other.defined() || other.sizes() != member.sizes() || other.scalar_type() != member.scalar_type()) {
      throw Error({.code = Code::invalid_argument, .what = "tie: the two parameters differ in shape or dtype"});
    }
    parameter.value() = other;
    member = other;
    return;
  }
  throw Error({.code = Code::invalid_argument, .what = "tie: the module has no such parameter", .hint = "tie before wrapping"});
}

}  // namespace tessera
