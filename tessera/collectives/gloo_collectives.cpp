#include "tessera/collectives/gloo_collectives.h"

#define USE_C10D_GLOO 1
#include <ATen/core/grad_mode.h>
#include <torch/version.h>

#include <thread>
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>

// Never here: constructing GlooStore, or a call through a gloo type. Their real layout differs from that of the stand-ins in gloo_shim/.
static_assert(TORCH_VERSION_MAJOR == 2 && TORCH_VERSION_MINOR == 13, "ProcessGroupGloo.hpp was checked for torch 2.13 only");

namespace tessera {
namespace {

constexpr Milliseconds slice(500);         // between two looks at the control plane
constexpr Milliseconds word_of_mouth(3000);  // how long a closed connection may take to get a name

std::string first_line(const std::string& text) { return text.substr(0, text.find('\n')); }

// What is known when an operation goes wrong.
struct Watch {
  std::function<std::optional<Fault>()> control_failure;
  std::optional<Fault> aborted;

  std::optional<Fault> failure() const { return aborted ? aborted : control_failure(); }
  // The control plane's word on why a connection closed; it may take a moment to come.
  Fault explain(const std::string& operation, const std::string& what) const {
    for (auto until = Deadline::after(word_of_mouth); !until.expired(); std::this_thread::sleep_for(Milliseconds(20))) {
      if (auto fault = failure()) return *fault;
    }
    return {.code = Code::peer_lost, .what = "a peer is gone, in " + operation + ": " + what};
  }
};

class GlooWork final : public Work {
 public:
  GlooWork(c10::intrusive_ptr<c10d::Work> work, std::shared_ptr<Watch> watch, std::string operation, at::Tensor to_scale, double scale,
           Milliseconds deadline)
      : work_(std::move(work)),
        watch_(std::move(watch)),
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
      if (work_->isCompleted() && !work_->isSuccess()) throw Error(watch_->explain(operation_, first_line(error.what())));
      if (work_->isCompleted()) return true;
    }
    // Only the slice is over.
    if (const auto fault = watch_->failure()) throw Error(*fault);
    if (until.expired())
      throw Error({.code = Code::timeout, .what = operation_ + " took longer than " + std::to_string(deadline_.count()) + " ms"});
    return false;
  }

  const c10::intrusive_ptr<c10d::Work> work_;
  const std::shared_ptr<Watch> watch_;
  const std::string operation_;
  at::Tensor to_scale_;
  const double scale_;
  const Milliseconds deadline_;
};

c10d::ReduceOp reduce_op(Reduce how) { return how == Reduce::max ? c10d::ReduceOp::MAX : c10d::ReduceOp::SUM; }

class GlooCollectives final : public Collectives {
 public:
  GlooCollectives(c10::intrusive_ptr<c10d::Store> store, int rank, int size, Milliseconds deadline,
                  std::function<std::optional<Fault>()> control_failure)
      : rank_(rank), size_(size), deadline_(deadline), watch_(std::make_shared<Watch>(Watch{std::move(control_failure), {}})) {
    group_ = c10::make_intrusive<c10d::ProcessGroupGloo>(std::move(store), rank, size,
                                                         c10d::ProcessGroupGloo::Options::create_default(deadline));
  }

  int rank() const override { return rank_; }
  int size() const override { return size_; }

  std::unique_ptr<Work> all_gather_into(at::Tensor full, at::Tensor shard) override {
    return launch("all_gather", shard, {}, Reduce::sum, [&] { return group_->_allgather_base(full, shard); });
  }
  std::unique_ptr<Work> reduce_scatter_into(at::Tensor shard, at::Tensor full, Reduce how) override {
    return launch("reduce_scatter", shard, shard, how, [&] {
      c10d::ReduceScatterOptions options;
      options.reduceOp = reduce_op(how);
      return group_->_reduce_scatter_base(shard, full, options);
    });
  }
  std::unique_ptr<Work> all_reduce(at::Tensor tensor, Reduce how) override {
    return launch("all_reduce", tensor, tensor, how, [&] {
      c10d::AllreduceOptions options;
      options.reduceOp = reduce_op(how);
      std::vector<at::Tensor> tensors{tensor};
      return group_->allreduce(tensors, options);
    });
  }
  std::unique_ptr<Work> broadcast(at::Tensor tensor, int root) override {
    return launch("broadcast", tensor, {}, Reduce::sum, [&] {
      c10d::BroadcastOptions options;
      options.rootRank = root;
      std::vector<at::Tensor> tensors{tensor};
      return group_->broadcast(tensors, options);
    });
  }
  void abort(const Fault& fault) override {
    if (!watch_->aborted) watch_->aborted = fault;
  }

 private:
  // A mean is the sum times 1/N, on every transport, so that they agree.
  template <class Start>
  std::unique_ptr<Work> launch(const char* name, const at::Tensor& tensor, const at::Tensor& reduced, Reduce how, Start start) {
    if (const auto fault = watch_->failure()) throw Error(*fault);
    const std::string operation = std::string(name) + " of " + std::to_string(tensor.numel()) + " " + c10::toString(tensor.scalar_type());
    try {
      return std::make_unique<GlooWork>(start(), watch_, operation, how == Reduce::mean ? reduced : at::Tensor(), 1.0 / size_, deadline_);
    } catch (const c10::Error& error) {
      throw Error({.code = Code::internal, .what = operation + ": " + first_line(error.what_without_backtrace())});
    }
  }

  const int rank_;
  const int size_;
  const Milliseconds deadline_;
  const std::shared_ptr<Watch> watch_;
  c10::intrusive_ptr<c10d::Backend> group_;
};

}  // namespace

std::unique_ptr<Collectives> gloo_collectives(c10::intrusive_ptr<c10d::Store> store, int rank, int size, Milliseconds deadline,
                                              std::function<std::optional<Fault>()> control_failure) {
  return std::make_unique<GlooCollectives>(std::move(store), rank, size, deadline, std::move(control_failure));
}

}  // namespace tessera
