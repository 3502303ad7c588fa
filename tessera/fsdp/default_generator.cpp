#include "tessera/fsdp/default_generator.h"

#include <ATen/CPUGeneratorImpl.h>

#include <mutex>

namespace tessera {
namespace {

template <class Work>
auto with_generator(Work work) {
  at::Generator generator = at::detail::getDefaultCPUGenerator();
  const std::lock_guard lock(generator.mutex());
  return work(generator);
}

}  // namespace

at::Tensor default_random_state() {
  return with_generator([](at::Generator& generator) { return generator.get_state(); });
}

void set_default_random_state(const at::Tensor& state) {
  with_generator([&](at::Generator& generator) { generator.set_state(state); });
}

void seed_default_generator(uint64_t seed) {
  with_generator([&](at::Generator& generator) { generator.set_current_seed(seed); });
}

}  // namespace tessera
