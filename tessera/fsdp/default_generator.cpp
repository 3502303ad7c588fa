#include "tessera/fsdp/default_generator.h"

#include <ATen/Context.h>

#include <mutex>

namespace tessera {
namespace {

template <class Work>
auto with_generator(at::Device device, Work work) {
  at::Generator generator = at::globalContext().defaultGenerator(device);
  const std::lock_guard lock(generator.mutex());
  return work(generator);
}

}  // namespace

at::Tensor default_random_state(at::Device device) {
  return with_generator(device, [](at::Generator& generator) { return generator.get_state(); });
}

void set_default_random_state(const at::Tensor& state, at::Device device) {
  with_generator(device, [&](at::Generator& generator) { generator.set_state(state); });
}

void seed_default_generator(uint64_t seed) {
  with_generator(at::kCPU, [&](at::Generator& generator) { generator.set_current_seed(seed); });
}

}  // namespace tessera
