#include "tessera/collectives/gloo_collectives.h"

#define USE_C10D_GLOO 1
#include <ATen/core/grad_mode.h>
#include <torch/version.h>

#include <thread>
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>
#include <vector>

#include "tessera/collectives/arguments.h"

// Never here: constructing GlooStore, or a call through a gloo type. Their real layout differs from that of the stand-ins in gloo_shim/.
static_assert(TORCH_VERSION_MAJOR == 2 && TORCH_VERSION_MINOR == 13, "ProcessGroupGloo.hpp was checked for torch 2.13 only");

namespace tessera {
namespace {

constexpr Milliseconds slice(500);           // between two looks at the control plane
constexpr Milliseconds word_of_mouth(3000);  // how long a closed connection may take to get a name

std::string first_line(const std::string& text) { return text.substr(0, text.find('\n')); }

// A fault of the control plane, as it is met in an operation.
Fault met_in(Fault fault, const std::string& operation) {
  if (fault.code == Code::peer_lost) fault.what += ", in " + operation;
  return fault;
}

// The control plane's word on why an operation failed, which may take a moment to come; else what Gloo says.
Fault explain(Comm& control, const std::string& operation, const std::string& gloo_says) {
  for (const auto until = Deadline::after(word_of_mouth); !until.expired(); std::this_thread::sleep_for(Milliseconds(20))) {
    if (auto fault = control.failure()) return met_in(std::move(*fault), operation);
  }
  if (gloo_says.find("imed out") != std::string::npos) return {.code = Code::timeout, .what = operation + ": " + gloo_says};
  return {.code = Code::peer_lost, .what = "a peer is gone, in " + operation + ": " + gloo_says};
}

class GlooWork final : public Work {
 public:
  GlooWork(c10::intrusive_ptr<c10d::Work> work, Comm& control, std::string operation, at::Tensor to_scale, double scale,
           Milliseconds deadline)
      : work_(std::move(work)),
        control_(control),
        operation_(std::move(operation)),
        to_scale_(std::move(to_scale)),
        scale_(scale),
        deadline_(deadline) {}

  void wait() override {
    const Deadline until = Deadline::after(deadline_);
    while (!wait_a_while(until)) {
    }
    if (to_scale_.defined()) {
      const at::NoGradGuard no_grad;
      std::exchange(to_scale_, at::Tensor()).mul_(scale_);
    }
  }

 private:
  // True when the operation is complete.
  bool wait_a_while(Deadline until) {
    try {
      work_->wait(slice);
      return true;
    } catch (const std::exception& error) {
      if (work_->isCompleted() && !work_->isSuccess()) throw Error(explain(control_, operation_, first_line(error.what())));
      if (work_->isCompleted()) return true;
    }
    // Only the slice is over.
    if (auto fault = control_.failure()) throw Error(met_in(std::move(*fault), operation_));
    if (until.expired())
      throw Error({.code = Code::timeout, .what = operation_ + " took longer than " + std::to_string(deadline_.count()) + " ms"});
    return false;
  }

  const c10::intrusive_ptr<c10d::Work> work_;
  Comm& control_;
  const std::string operation_;
  at::Tensor to_scale_;
  const double scale_;
  const Milliseconds deadline_;
};

// What is only carried is carried as bytes, since Gloo does not know every dtype.
at::Tensor bytes_of(const at::Tensor& tensor) { return tensor.detach().view({-1}).view(at::kByte); }

c10d::ReduceOp reduce_op(Reduce how) { return how == Reduce::max ? c10d::ReduceOp::MAX : c10d::ReduceOp::SUM; }

class GlooCollectives final : public Collectives {
 public:
  GlooCollectives(c10::intrusive_ptr<c10d::Store> store, Comm& control, Milliseconds deadline) : control_(control), deadline_(deadline) {
    group_ = c10::make_intrusive<c10d::ProcessGroupGloo>(std::move(store), control.rank(), control.size(),
                                                         c10d::ProcessGroupGloo::Options::create_default(deadline));
  }
  ~GlooCollectives() override {
    // A group's destructor waits for its operations. One that is still under way here failed or was given up, may wait for a peer that
    // never comes, and would keep this rank from saying so to the others: then the group is left to the end of the process.
    forget_complete();
    if (!under_way_.empty()) group_.release();
  }

  int rank() const override { return control_.rank(); }
  int size() const override { return control_.size(); }

  std::unique_ptr<Work> all_gather_into(at::Tensor full, at::Tensor shard) override {
    check_all_gather(full, shard, size());
    return launch("all_gather", shard, {}, Reduce::sum, [&] {
      at::Tensor to = bytes_of(full);
      at::Tensor from = bytes_of(shard);
      return group_->_allgather_base(to, from);
    });
  }
  std::unique_ptr<Work> reduce_scatter_into(at::Tensor shard, at::Tensor full, Reduce how) override {
    check_reduce_scatter(shard, full, how, size());
    return launch("reduce_scatter", shard, shard, how, [&] {
      c10d::ReduceScatterOptions options;
      options.reduceOp = reduce_op(how);
      return group_->_reduce_scatter_base(shard, full, options);
    });
  }
  std::unique_ptr<Work> all_reduce(at::Tensor tensor, Reduce how) override {
    check_all_reduce(tensor, how);
    return launch("all_reduce", tensor, tensor, how, [&] {
      c10d::AllreduceOptions options;
      options.reduceOp = reduce_op(how);
      std::vector<at::Tensor> tensors{tensor};
      return group_->allreduce(tensors, options);
    });
  }
  std::unique_ptr<Work> broadcast(at::Tensor tensor, int root) override {
    check_broadcast(tensor, root, size());
    return launch("broadcast", tensor, {}, Reduce::sum, [&] {
      c10d::BroadcastOptions options;
      options.rootRank = root;
      std::vector<at::Tensor> tensors{bytes_of(tensor)};
      return group_->broadcast(tensors, options);
    });
  }
  // The control plane spreads the word, and every wait looks at it.
  void abort(const Fault& fault) override { control_.abort(fault); }

 private:
  // A mean is the sum times 1/N, on every transport, so that they agree.
  template <class Start>
  std::unique_ptr<Work> launch(const char* name, const at::Tensor& tensor, const at::Tensor& reduced, Reduce how, Start start) {
    const std::string operation = std::string(name) + " of " + std::to_string(tensor.numel()) + " " + c10::toString(tensor.scalar_type());
    if (auto fault = control_.failure()) throw Error(met_in(std::move(*fault), operation));
    forget_complete();
    try {
      auto work = start();
      under_way_.emplace_back(work);
      return std::make_unique<GlooWork>(std::move(work), control_, operation, how == Reduce::mean ? reduced : at::Tensor(), 1.0 / size(),
                                        deadline_);
    } catch (const c10::Error& error) {
      throw Error({.code = Code::internal, .what = operation + ": " + first_line(error.what_without_backtrace())});
    }
  }

  void forget_complete() {
    std::erase_if(under_way_, [](const auto& weak) {
      const auto work = weak.lock();
      return !work || work->isCompleted();
    });
  }

  Comm& control_;
  const Milliseconds deadline_;
  c10::intrusive_ptr<c10d::Backend> group_;
  std::vector<c10::weak_intrusive_ptr<c10d::Work>> under_way_;  // weak, so that no tensor lives longer for it
};

}  // namespace

std::unique_ptr<Collectives> gloo_collectives(c10::intrusive_ptr<c10d::Store> store, Comm& control, Milliseconds deadline) {
  return std::make_unique<GlooCollectives>(std::move(store), control, deadline);
}

}  // namespace tessera
