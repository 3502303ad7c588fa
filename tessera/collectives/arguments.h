// tessera/collectives/arguments.h: what every transport between CPUs asks of its tensors, so that all refuse alike.
// A refusal comes before anything is launched: the next collective is as good as if there had been none.
// Errors      Error(invalid_argument) for tensors that do not fit; Error(unsupported) for a device, or a reduction of a dtype, that is
// beyond us.
#pragma once

#include "tessera/collectives/collectives.h"

namespace tessera {

void check_all_gather(const at::Tensor& full, const at::Tensor& shard, int ranks);
void check_reduce_scatter(const at::Tensor& shard, const at::Tensor& full, Reduce how, int ranks);
void check_all_reduce(const at::Tensor& tensor, Reduce how);
void check_broadcast(const at::Tensor& tensor, int root, int ranks);

}  // namespace tessera
