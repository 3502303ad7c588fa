#include "tessera/collectives/gloo_collectives.h"

#define USE_C10D_GLOO 1
#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty_like.h>
#include <torch/version.h>

#include <functional>
#include <thread>
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>
#include <vector>

#include "tessera/collectives/arguments.h"
#include "tessera/collectives/collective_operation.h"
#include "tessera/collectives/deaf_threads.h"
#include "tessera/collectives/reduction.h"
#include "tessera/collectives/thread_collectives.h"

// Never here: constructing GlooStore, or a call through a gloo type. Their real layout differs from that of the stand-ins in gloo_shim/.
static_assert(TORCH_VERSION_MAJOR == 2 && TORCH_VERSION_MINOR == 13, "ProcessGroupGloo.hpp was checked for torch 2.13 only");

namespace tessera {
namespace {

constexpr Milliseconds slice(500);           // between two looks at the control plane
constexpr Milliseconds word_of_mouth(3000);  // how long a closed connection may take to get a name

std::string first_line(const std::string& text) { return text.substr(0, text.find('\n')); }

// The control plane's word on why an operation failed, which may take a moment to come; else what Gloo says.
Fault explain(Comm& control, const CollectiveOperation& what, const std::string& gloo_says) {
  for (const auto until = Deadline::after(word_of_mouth); !until.expired(); std::this_thread::sleep_for(Milliseconds(20))) {
    if (auto fault = control.failure()) return met_in(std::move(*fault), what);
  }
  if (gloo_says.find("imed out") != std::string::npos) return {.code = Code::timeout, .what = describe(what) + ": " + gloo_says};
  return {.code = Code::peer_lost, .what = "a peer is gone, in " + describe(what) + ": " + gloo_says};
}

class GlooWork final : public Work {
 public:
  // `finish`, where there is one, is what the rank's own thread does once the bytes are there.
  GlooWork(c10::intrusive_ptr<c10d::Work> work, Comm& control, const CollectiveOperation& what, std::function<void()> finish,
           Milliseconds deadline)
      : work_(std::move(work)), control_(control), what_(what), finish_(std::move(finish)), deadline_(deadline) {}

  void wait() override {
    const Deadline until = Deadline::after(deadline_);
    while (!wait_a_while(until)) {
    }
    if (const auto finish = std::exchange(finish_, nullptr)) finish();
  }

 private:
  // True when the operation is complete.
  bool wait_a_while(Deadline until) {
    try {
      work_->wait(slice);
      return true;
    } catch (const std::exception& error) {
      if (work_->isCompleted() && !work_->isSuccess()) throw Error(explain(control_, what_, first_line(error.what())));
      if (work_->isCompleted()) return true;
    }
    // Only the slice is over.
    if (auto fault = control_.failure()) throw Error(met_in(std::move(*fault), what_));
    if (until.expired())
      throw Error({.code = Code::timeout, .what = describe(what_) + " took longer than " + std::to_string(deadline_.count()) + " ms"});
    return false;
  }

  const c10::intrusive_ptr<c10d::Work> work_;
  Comm& control_;
  const CollectiveOperation what_;
  std::function<void()> finish_;
  const Milliseconds deadline_;
};

// What is only carried is carried as bytes, since Gloo does not know every dtype.
at::Tensor bytes_of(const at::Tensor& tensor) { return tensor.detach().view({-1}).view(at::kByte); }

void scale(const at::Tensor& sum, double factor) {
  const at::NoGradGuard no_grad;
  const bool half = sum.scalar_type() == at::kHalf || sum.scalar_type() == at::kBFloat16;
  if (half) sum.copy_(sum.to(at::kFloat).mul_(factor));  // 1/N is not always one of theirs
  else sum.mul_(factor);
}

c10d::ReduceOp reduce_op(Reduce how) { return how == Reduce::max ? c10d::ReduceOp::MAX : c10d::ReduceOp::SUM; }

// What a reduce_scatter sends and receives: every other rank's part, and its own only where that lies in the middle.
struct Exchange {
  Exchange(const at::Tensor& shard, const at::Tensor& full, int rank, int size)
      : own(full.narrow(0, rank * shard.numel(), shard.numel())), sent(full), rank(rank) {
    counts_bytes.assign(static_cast<size_t>(size), static_cast<int64_t>(shard.nbytes()));
    without_own = size > 1 && (rank == 0 || rank == size - 1);
    if (without_own) {
      counts_bytes[static_cast<size_t>(rank)] = 0;
      sent = full.narrow(0, rank == 0 ? shard.numel() : 0, full.numel() - shard.numel());
    }
    received = at::empty_like(sent);
  }

  void reduce_into(const at::Tensor& shard, Reduce how) const {
    if (shard.numel() == 0) return;
    std::vector<const void*> parts;
    const auto* next = static_cast<const std::byte*>(received.const_data_ptr());
    for (int r = 0; r < static_cast<int>(counts_bytes.size()); ++r) {
      parts.push_back(r == rank ? own.const_data_ptr() : next);
      if (r != rank || !without_own) next += shard.nbytes();
    }
    reduce_in_order(shard.mutable_data_ptr(), parts, shard.numel(), shard.scalar_type(), how);
  }

  at::Tensor own, sent, received;
  std::vector<int64_t> counts_bytes;  // by rank, to it and from it
  int rank;
  bool without_own = false;
};

class GlooCollectives final : public Collectives {
 public:
  GlooCollectives(c10::intrusive_ptr<c10d::Store> store, Comm& control, Members members, Milliseconds deadline)
      : store_(std::move(store)), control_(control), members_(std::move(members)), deadline_(deadline) {
    const ThreadsDeafToBrokenPipes deaf;
    group_ = c10::make_intrusive<c10d::ProcessGroupGloo>(store_, members_.mine, members_.size(),
                                                         c10d::ProcessGroupGloo::Options::create_default(deadline));
  }
  ~GlooCollectives() override {
    // A group's destructor waits for its operations. One that is still under way here failed or was given up, may wait for a peer that
    // never comes, and would keep this rank from saying so to the others: then the group is left to the end of the process.
    forget_complete();
    if (!under_way_.empty()) group_.release();
  }

  int rank() const override { return members_.mine; }
  int size() const override { return members_.size(); }

  std::unique_ptr<Work> all_gather_into(at::Tensor full, at::Tensor shard, std::string_view label) override {
    check_all_gather(full, shard, size());
    return launch(operation(CollectiveKind::all_gather, shard, label), nullptr, [&] {
      at::Tensor to = bytes_of(full);
      at::Tensor from = bytes_of(shard);
      return group_->_allgather_base(to, from);
    });
  }
  std::unique_ptr<Work> reduce_scatter_into(at::Tensor shard, at::Tensor full, Reduce how, std::string_view label) override {
    check_reduce_scatter(shard, full, how, size());
    // Gloo's own would be an all_reduce, which sends twice as much: here each rank gets the others' parts of its shard and adds them up,
    // in the order of ranks, as threads and shared memory do.
    const Exchange exchange(shard, full, rank(), size());
    return launch(
        operation(CollectiveKind::reduce_scatter, shard, label, how), [exchange, shard, how] { exchange.reduce_into(shard, how); },
        [&] {
          at::Tensor to = bytes_of(exchange.received), from = bytes_of(exchange.sent);
          std::vector<int64_t> received = exchange.counts_bytes, sent = exchange.counts_bytes;
          return group_->alltoall_base(to, from, received, sent);
        });
  }
  std::unique_ptr<Work> all_reduce(at::Tensor tensor, Reduce how, std::string_view label) override {
    check_all_reduce(tensor, how);
    // A mean is the sum times 1/N, on every transport, so that they agree.
    std::function<void()> finish;
    if (how == Reduce::mean) finish = [tensor, factor = 1.0 / size()] { scale(tensor, factor); };
    return launch(operation(CollectiveKind::all_reduce, tensor, label, how), std::move(finish), [&] {
      c10d::AllreduceOptions options;
      options.reduceOp = reduce_op(how);
      std::vector<at::Tensor> tensors{tensor};
      return group_->allreduce(tensors, options);
    });
  }
  std::unique_ptr<Work> broadcast(at::Tensor tensor, int root, std::string_view label) override {
    check_broadcast(tensor, root, size());
    return launch(operation(CollectiveKind::broadcast, tensor, label, Reduce::sum, root), nullptr, [&] {
      c10d::BroadcastOptions options;
      options.rootRank = root;
      std::vector<at::Tensor> tensors{bytes_of(tensor)};
      return group_->broadcast(tensors, options);
    });
  }
  // A group meets in its own part of the store.
  std::unique_ptr<Collectives> split(const std::vector<int>& ranks) override {
    Members members = agree_on_split(*this, members_, ranks);
    const std::string place = "split " + std::to_string(splits_++) + " from " + std::to_string(members.ranks.front());
    if (members.size() == 1) return lone_collectives();
    return gloo_collectives(c10::make_intrusive<c10d::PrefixStore>(place, store_), control_, std::move(members), deadline_);
  }
  // The control plane spreads the word, and every wait looks at it.
  void abort(const Fault& fault) override { control_.abort(fault); }

 private:
  template <class Start>
  std::unique_ptr<Work> launch(CollectiveOperation what, std::function<void()> finish, Start start) {
    what.number = launched_++;
    if (auto fault = control_.failure()) throw Error(met_in(std::move(*fault), what));
    forget_complete();
    try {
      auto work = start();
      under_way_.emplace_back(work);
      return std::make_unique<GlooWork>(std::move(work), control_, what, std::move(finish), deadline_);
    } catch (const c10::Error& error) {
      throw Error({.code = Code::internal, .what = describe(what) + ": " + first_line(error.what_without_backtrace())});
    }
  }

  void forget_complete() {
    std::erase_if(under_way_, [](const auto& weak) {
      const auto work = weak.lock();
      return !work || work->isCompleted();
    });
  }

  const c10::intrusive_ptr<c10d::Store> store_;
  Comm& control_;
  const Members members_;
  const Milliseconds deadline_;
  c10::intrusive_ptr<c10d::Backend> group_;
  uint64_t launched_ = 0;
  uint64_t splits_ = 0;
  std::vector<c10::weak_intrusive_ptr<c10d::Work>> under_way_;  // weak, so that no tensor lives longer for it
};

}  // namespace

std::unique_ptr<Collectives> gloo_collectives(c10::intrusive_ptr<c10d::Store> store, Comm& control, Members members,
                                              Milliseconds deadline) {
  return std::make_unique<GlooCollectives>(std::move(store), control, std::move(members), deadline);
}

}  // namespace tessera
