// tessera/fsdp/stretch.h: a stretch of parameters that a step treats alike, as views of what the step reads and changes.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <vector>

namespace tessera {

struct Stretch {
  at::Tensor parameter;
  at::Tensor gradient;
  std::vector<at::Tensor> moments;  // in the rule's order; undefined where the options call for none

  // All are 1-D and without gaps. False for a parameter outside units that is laid out in another way: its step is one of whole tensors.
  bool in_a_row = true;
  Stretch narrow(int64_t begin, int64_t count) const;
};

// Runs `work` on pieces of at most `numel` elements, on ATen's threads; or once, on what is not in a row. Autograd is off in it.
void for_each_block(const Stretch& all, int64_t numel, const std::function<void(const Stretch&)>& work);

// The size of the pieces where each thread has one, and none so little that it is not worth a thread.
int64_t one_per_thread(const Stretch& all);

}  // namespace tessera
