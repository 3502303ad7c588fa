// tessera/collectives/collectives.h: how ranks compute: gather, scatter-reduce and reduce on tensors.
// Shapes      Tensors are contiguous and 1-D (any shape for all_reduce and broadcast), of the same dtype and size on all ranks.
// Order       Every rank launches the same operations in the same order, from one thread at a time; over all groups that it is in.
// Labels      Say what an operation is for ("h.3"): they stand in errors, and ranks that launch different operations, or the same for
//             different things, get Error(mismatch) that says which rank launched what. Threads and shared memory always look; Gloo
//             only where JobOptions::check_order asks for it.
// Errors      Tensors that do not fit are refused before anything is launched, alike by all transports. wait() throws tessera::Error
//             naming the rank, by its number in the job, and the operation: peer_lost, timeout, aborted, mismatch or internal; from then
//             on the Collectives is of no more use. A transport may go on writing to tensors whose wait() threw, so their storage must
//             not be freed by hand before the Collectives is gone.
// Determinism Threads, shared memory, and Gloo but for its all_reduce, reduce in rank order and agree bit for bit: halves (float16,
//             bfloat16) are summed in float32 and rounded once, a mean is the sum times 1/N. Gloo's all_reduce has an order of its own,
//             and sums halves in their own dtype. Each (N, transport) repeats bit for bit.
// Bytes       A rank sends what it must: (n−1)/n of the whole in an all_gather or reduce_scatter, twice that in an all_reduce. Over Gloo
//             a reduce_scatter needs memory for what it receives, as large as what it sends, until wait() returns.
#pragma once

#include <ATen/core/Tensor.h>

#include <memory>
#include <string_view>
#include <vector>

#include "tessera/base/error.h"

namespace tessera {

enum class Reduce : uint8_t { sum, mean, max };

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
  virtual std::unique_ptr<Work> all_gather_into(at::Tensor full, at::Tensor shard, std::string_view label = {}) = 0;
  // shard = the reduction over ranks of full[rank·n, (rank+1)·n). It lies outside `full`, whose content is undefined afterwards.
  virtual std::unique_ptr<Work> reduce_scatter_into(at::Tensor shard, at::Tensor full, Reduce how, std::string_view label = {}) = 0;
  virtual std::unique_ptr<Work> all_reduce(at::Tensor tensor, Reduce how, std::string_view label = {}) = 0;  // in place
  virtual std::unique_ptr<Work> broadcast(at::Tensor tensor, int root, std::string_view label = {}) = 0;     // in place
  // A Collectives among some of these ranks, which are numbered anew in the order given: ascending. Every rank calls it at once, each
  // with the ranks of its own group: the groups are disjoint. What the ranks were given first (the Job) outlives it.
  virtual std::unique_ptr<Collectives> split(const std::vector<int>& ranks) = 0;
  // Makes every rank of the job that waits, or will wait, throw `fault`: here, and in what this was split from or into.
  virtual void abort(const Fault& fault) = 0;
};

}  // namespace tessera
