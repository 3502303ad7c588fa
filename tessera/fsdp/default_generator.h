// tessera/fsdp/default_generator.h: the state of LibTorch's default generator on the CPU, which a process has once.
// Threads     Each call is safe beside others; what two of them find together is not.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace tessera {

at::Tensor default_random_state();  // bytes
void set_default_random_state(const at::Tensor& state);
void seed_default_generator(uint64_t seed);

}  // namespace tessera
