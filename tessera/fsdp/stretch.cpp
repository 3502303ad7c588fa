#include "tessera/fsdp/stretch.h"

#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>

#include "tessera/base/parallel.h"

namespace tessera {

Stretch Stretch::narrow(int64_t begin, int64_t count) const {
  const auto cut = [&](const at::Tensor& tensor) { return tensor.defined() ? tensor.narrow(0, begin, count) : at::Tensor(); };
  Stretch part{cut(parameter), cut(gradient), {}};
  for (const at::Tensor& moment : moments) part.moments.push_back(cut(moment));
  return part;
}

void for_each_block(const Stretch& all, int64_t numel, const std::function<void(const Stretch&)>& work) {
  if (!all.in_a_row) return work(all);
  // What a thread costs to start is little beside this many elements. (at::parallel_for is serial in code built without OpenMP.)
  constexpr int64_t worth_a_thread = int64_t{1} << 18;
  const int64_t total = all.parameter.numel();
  const int64_t threads = std::clamp<int64_t>(total / worth_a_thread, 1, at::get_num_threads());
  in_parallel(static_cast<size_t>((total + numel - 1) / numel), static_cast<int>(threads), [&](size_t block) {
    const at::NoGradGuard no_grad;
    const int64_t begin = static_cast<int64_t>(block) * numel;
    work(all.narrow(begin, std::min(numel, total - begin)));
  });
}

}  // namespace tessera
