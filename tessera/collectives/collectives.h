// tessera/collectives/collectives.h: how ranks compute: gather, scatter-reduce and reduce on tensors.
// Shapes      Tensors are contiguous and 1-D (any shape for all_reduce and broadcast), of the same dtype and size on all ranks.
// Order       Every rank launches the same operations in the same order, from one thread at a time.
// Errors      Tensors that do not fit are refused before anything is launched, alike by all transports. wait() throws tessera::Error naming
// the
//             rank and the operation: peer_lost, timeout, aborted or internal; from then on the Collectives is of no more use. A transport
//             may go on writing to tensors whose wait() threw, so their storage must not be freed by hand before the Collectives is gone.
// Determinism Thread ranks reduce in rank order; a mean is the sum times 1/N. Each (N, transport) repeats bit for bit.
#pragma once

#include <ATen/core/Tensor.h>

#include <memory>

#include "tessera/base/error.h"

namespace tessera {

enum class Reduce { sum, mean, max };

// An operation under way. Its tensors must stay alive and untouched until wait() returns; the Work keeps them alive.
class Work {
 public:
  virtual ~Work() = default;
  virtual void wait() = 0;
};

class Collectives {
 public:
  virtual ~Collectives() = default;
  virtual int rank() const = 0;
  virtual int size() const = 0;
  // full[r·n, (r+1)·n) = shard of rank r, n = shard.numel(). full.numel() == n · size(). `shard` may alias its own place in `full`.
  virtual std::unique_ptr<Work> all_gather_into(at::Tensor full, at::Tensor shard) = 0;
  // shard = the reduction over ranks of full[rank·n, (rank+1)·n). It lies outside `full`, whose content is undefined afterwards.
  virtual std::unique_ptr<Work> reduce_scatter_into(at::Tensor shard, at::Tensor full, Reduce how) = 0;
  virtual std::unique_ptr<Work> all_reduce(at::Tensor tensor, Reduce how) = 0;  // in place
  virtual std::unique_ptr<Work> broadcast(at::Tensor tensor, int root) = 0;  // in place
  // Makes every rank that waits, or will wait, throw `fault`.
  virtual void abort(const Fault& fault) = 0;
};

}  // namespace tessera
