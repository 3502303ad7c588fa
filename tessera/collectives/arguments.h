// tessera/collectives/arguments.h: what every transport asks of its tensors, so that all refuse alike.
// A refusal comes before anything is launched: the next collective is as good as if there had been none.
// Errors      Error(invalid_argument) for tensors that do not fit; Error(unsupported) for a device, or a reduction of a dtype, that is
// beyond us.
#pragma once

#include "tessera/collectives/collectives.h"

namespace tessera {

// Where tensors may lie: for `any`, those of one operation on the same device.
enum class Memory : uint8_t { host, any };

void check_all_gather(const at::Tensor& full, const at::Tensor& shard, int ranks, Memory memory = Memory::host);
void check_reduce_scatter(const at::Tensor& shard, const at::Tensor& full, Reduce how, int ranks, Memory memory = Memory::host);
void check_all_reduce(const at::Tensor& tensor, Reduce how, Memory memory = Memory::host);
void check_broadcast(const at::Tensor& tensor, int root, int ranks, Memory memory = Memory::host);

}  // namespace tessera
