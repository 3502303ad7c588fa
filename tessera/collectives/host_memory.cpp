#include "tessera/collectives/host_memory.h"

#include <ATen/DeviceAccelerator.h>
#include <ATen/ops/empty.h>

namespace tessera {

at::Tensor empty_on_host(const at::Tensor& like, std::optional<at::ScalarType> dtype) {
  const bool pinned = at::getAccelerator() == like.device().type();
  return at::empty(like.sizes(), at::TensorOptions(dtype.value_or(like.scalar_type())).pinned_memory(pinned));
}

}  // namespace tessera
