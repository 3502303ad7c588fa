// tessera/collectives/through_host.h: tensors on a GPU over what carries host memory only: copied there and back.
// For GPUs between which there is nothing faster: several ranks that share one, a LibTorch without NCCL. Tensors in host memory pass as
// they are.
// Alone       A group of one rank copies on its device.
// Devices     A launch waits until what the current stream holds is in host memory; wait() has the result copied back on the stream that is
//             then current, and does not wait for the copy.
// Memory      Pinned, on the host: what the larger tensors of the operations under way take, rounded and kept by LibTorch's allocator.
#pragma once

#include <memory>

#include "tessera/collectives/collectives.h"

namespace tessera {

std::unique_ptr<Collectives> through_host(std::unique_ptr<Collectives> host);

}  // namespace tessera
