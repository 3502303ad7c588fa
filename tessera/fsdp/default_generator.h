// tessera/fsdp/default_generator.h: the state of LibTorch's default generators; the one on the CPU a process has once.
// Threads     Each call is safe beside others; what two of them find together is not.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace tessera {

at::Tensor default_random_state(at::Device device = at::kCPU);  // bytes
void set_default_random_state(const at::Tensor& state, at::Device device = at::kCPU);
void seed_default_generator(uint64_t seed);

}  // namespace tessera
