#include "tessera/collectives/nccl_collectives.h"

#define USE_C10D_NCCL 1
#include <ATen/core/grad_mode.h>
#include <ATen/cuda/CUDAContext.h>

#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroupNCCL.hpp>
#include <vector>

#include "tessera/collectives/arguments.h"
#include "tessera/collectives/collective_operation.h"

namespace tessera {
namespace {

// The stream that the rank computes on waits for the operation; memory and order are NCCL's and the stream's.
class NcclWork final : public Work {
 public:
  NcclWork(c10::intrusive_ptr<c10d::Work> work, const CollectiveOperation& what) : work_(std::move(work)), what_(what) {}
  void wait() override {
    try {
      work_->wait();
    } catch (const c10::Error& error) {
      throw Error({.code = Code::peer_lost, .what = "in " + describe(what_) + ": " + error.what_without_backtrace()});
    }
  }

 private:
  const c10::intrusive_ptr<c10d::Work> work_;
  const CollectiveOperation what_;
};

c10d::ReduceOp reduce_op(Reduce how) {
  switch (how) {
    case Reduce::sum: return c10d::ReduceOp::SUM;
    case Reduce::mean: return c10d::ReduceOp::AVG;
    case Reduce::max: return c10d::ReduceOp::MAX;
  }
  return c10d::ReduceOp::SUM;
}

void check_on_gpu(const at::Tensor& tensor) {
  if (!tensor.is_cuda()) throw Error({.code = Code::unsupported, .what = "NCCL takes tensors on a GPU, not on " + tensor.device().str()});
}

class NcclCollectives final : public Collectives {
 public:
  NcclCollectives(c10::intrusive_ptr<c10d::Store> store, Comm& control, Members members, Milliseconds deadline)
      : store_(std::move(store)), control_(control), members_(std::move(members)), deadline_(deadline) {
    auto options = c10d::ProcessGroupNCCL::Options::create();
    options->timeout = deadline;
    group_ = c10::make_intrusive<c10d::ProcessGroupNCCL>(store_, members_.mine, members_.size(), std::move(options));
  }

  int rank() const override { return members_.mine; }
  int size() const override { return members_.size(); }

  std::unique_ptr<Work> all_gather_into(at::Tensor full, at::Tensor shard, std::string_view label) override {
    check_all_gather(full, shard, size(), Memory::any);
    check_on_gpu(full);
    return launch(operation(CollectiveKind::all_gather, shard, label), [&] {
      at::Tensor to = full.detach(), from = shard.detach();
      return group_->_allgather_base(to, from);
    });
  }
  std::unique_ptr<Work> reduce_scatter_into(at::Tensor shard, at::Tensor full, Reduce how, std::string_view label) override {
    check_reduce_scatter(shard, full, how, size(), Memory::any);
    check_on_gpu(full);
    return launch(operation(CollectiveKind::reduce_scatter, shard, label, how), [&] {
      c10d::ReduceScatterOptions options;
      options.reduceOp = reduce_op(how);
      return group_->_reduce_scatter_base(shard, full, options);
    });
  }
  std::unique_ptr<Work> all_reduce(at::Tensor tensor, Reduce how, std::string_view label) override {
    check_all_reduce(tensor, how, Memory::any);
    check_on_gpu(tensor);
    return launch(operation(CollectiveKind::all_reduce, tensor, label, how), [&] {
      c10d::AllreduceOptions options;
      options.reduceOp = reduce_op(how);
      std::vector<at::Tensor> tensors{tensor.detach()};
      return group_->allreduce(tensors, options);
    });
  }
  std::unique_ptr<Work> broadcast(at::Tensor tensor, int root, std::string_view label) override {
    check_broadcast(tensor, root, size(), Memory::any);
    check_on_gpu(tensor);
    return launch(operation(CollectiveKind::broadcast, tensor, label, Reduce::sum, root), [&] {
      c10d::BroadcastOptions options;
      options.rootRank = root;
      std::vector<at::Tensor> tensors{tensor.detach()};
      return group_->broadcast(tensors, options);
    });
  }

  // Groups are taken at their word: to agree on them would take tensors on the GPU.
  std::unique_ptr<Collectives> split(const std::vector<int>& ranks) override {
    Members members;
    for (const int r : ranks) {
      if (r < 0 || r >= size()) throw Error({.code = Code::invalid_argument, .what = "split: no rank " + std::to_string(r)});
      if (r == rank()) members.mine = members.size();
      members.ranks.push_back(members_.job_rank(r));
    }
    const std::string place = "split " + std::to_string(splits_++) + " from " + std::to_string(members.ranks.front());
    return nccl_collectives(c10::make_intrusive<c10d::PrefixStore>(place, store_), control_, std::move(members), deadline_);
  }
  void abort(const Fault& fault) override {
    control_.abort(fault);
    group_->abort();
  }

 private:
  template <class Start>
  std::unique_ptr<Work> launch(CollectiveOperation what, Start start) {
    what.number = launched_++;
    if (auto fault = control_.failure()) throw Error(met_in(std::move(*fault), what));
    const at::NoGradGuard no_grad;
    try {
      return std::make_unique<NcclWork>(start(), what);
    } catch (const c10::Error& error) {
      throw Error({.code = Code::internal, .what = describe(what) + ": " + error.what_without_backtrace()});
    }
  }

  const c10::intrusive_ptr<c10d::Store> store_;
  Comm& control_;
  const Members members_;
  const Milliseconds deadline_;
  c10::intrusive_ptr<c10d::Backend> group_;
  uint64_t launched_ = 0;
  uint64_t splits_ = 0;
};

}  // namespace

std::string gpu_of(int local_rank) {
  const int seen = at::cuda::device_count();
  if (seen == 0) return {};
  const auto& bytes = at::cuda::getDeviceProperties(static_cast<c10::DeviceIndex>(local_rank % seen))->uuid.bytes;
  return {bytes, sizeof bytes};
}

std::unique_ptr<Collectives> nccl_collectives(c10::intrusive_ptr<c10d::Store> store, Comm& control, Members members,
                                              Milliseconds deadline) {
  return std::make_unique<NcclCollectives>(std::move(store), control, std::move(members), deadline);
}

}  // namespace tessera
