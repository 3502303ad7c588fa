// tessera/collectives/by_device.h: tensors in host memory over one Collectives, those on a GPU over another, among the same ranks.
// Order       Each of the two sees its own operations in the order in which all ranks launch them.
#pragma once

#include <memory>

#include "tessera/collectives/collectives.h"

namespace tessera {

std::unique_ptr<Collectives> by_device(std::unique_ptr<Collectives> host, std::unique_ptr<Collectives> gpu);

}  // namespace tessera
