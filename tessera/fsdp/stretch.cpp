#include "tessera/fsdp/stretch.h"

#include <ATen/Parallel.h>
#include <ATen/TensorIterator.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>

#include <algorithm>

namespace tessera {

Stretch Stretch::narrow(int64_t begin, int64_t count) const {
  const auto cut = [&](const at::Tensor& tensor) { return tensor.defined() ? tensor.narrow(0, begin, count) : at::Tensor(); };
  Stretch part{cut(parameter), cut(gradient), {}};
  for (const at::Tensor& moment : moments) part.moments.push_back(cut(moment));
  return part;
}

void for_each_block(const Stretch& all, int64_t numel, const std::function<void(const Stretch&)>& work) {
  if (!all.in_a_row) return work(all);
  const int64_t total = all.parameter.numel();
  // ATen's threads, by way of an iterator over one byte a block: at::parallel_for is serial in code that is built without OpenMP.
  at::Tensor blocks = at::empty({(total + numel - 1) / numel}, at::kByte);
  const char* const first = static_cast<const char*>(blocks.const_data_ptr());
  at::TensorIterator each = at::TensorIterator::nullary_op(blocks);
  const auto loop = [&](char** bytes, const int64_t*, int64_t count, int64_t /*rows: one*/) {
    const at::NoGradGuard no_grad;  // of the pool's thread
    for (int64_t block = bytes[0] - first; count > 0; ++block, --count) {
      work(all.narrow(block * numel, std::min(numel, total - block * numel)));
    }
  };
  each.for_each(loop, /*grain_size=*/1);
}

int64_t one_per_thread(const Stretch& all) {
  constexpr int64_t least = int64_t{1} << 15;  // as ATen's own operations have it
  const int64_t threads = at::get_num_threads();
  return std::max(least, (all.parameter.numel() + threads - 1) / threads);
}

}  // namespace tessera
