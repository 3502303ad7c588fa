// tessera/collectives/host_memory.h: memory on the host for copies of a device's tensors.
#pragma once

#include <ATen/core/Tensor.h>

#include <optional>

namespace tessera {

// Contiguous and uninitialized, of the tensor's sizes and dtype, or of `dtype`; pinned where the tensor's device can copy from and to it
// while the host goes on.
at::Tensor empty_on_host(const at::Tensor& like, std::optional<at::ScalarType> dtype = {});

}  // namespace tessera
