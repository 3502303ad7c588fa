#include "tessera/collectives/through_host.h"

#include <ATen/core/grad_mode.h>

#include <utility>

#include "tessera/collectives/arguments.h"
#include "tessera/collectives/forwarding_collectives.h"
#include "tessera/collectives/host_memory.h"

namespace tessera {
namespace {

at::Tensor copied(const at::Tensor& device) {
  const at::NoGradGuard no_grad;
  at::Tensor host = empty_on_host(device);
  host.copy_(device);
  return host;
}

class HostWork final : public Work {
 public:
  // What arrives in `host` goes to `device`.
  HostWork(std::unique_ptr<Work> inner, at::Tensor host, at::Tensor device)
      : inner_(std::move(inner)), host_(std::move(host)), device_(std::move(device)) {}

  void wait() override {
    inner_->wait();
    if (!host_.defined()) return;  // waited for again
    const at::NoGradGuard no_grad;
    device_.detach().copy_(host_, /*non_blocking=*/true);
    host_.reset();  // the allocator of pinned memory sees to it that it lasts
  }

 private:
  const std::unique_ptr<Work> inner_;
  at::Tensor host_;
  const at::Tensor device_;
};

// Done, as far as the device's stream goes.
class DoneWork final : public Work {
 public:
  void wait() override {}
};
std::unique_ptr<Work> copy_on_device(const at::Tensor& to, const at::Tensor& from) {
  const at::NoGradGuard no_grad;
  to.detach().copy_(from);
  return std::make_unique<DoneWork>();
}

bool on_host(const at::Tensor& tensor) { return !tensor.defined() || tensor.is_cpu(); }

class ThroughHost final : public ForwardingCollectives {
 public:
  using ForwardingCollectives::ForwardingCollectives;
  std::unique_ptr<Work> all_gather_into(at::Tensor full, at::Tensor shard, std::string_view label) override {
    if (on_host(full) && on_host(shard)) return ForwardingCollectives::all_gather_into(std::move(full), std::move(shard), label);
    check_all_gather(full, shard, size(), Memory::any);
    if (size() == 1) return copy_on_device(full, shard);
    const at::Tensor all = empty_on_host(full);
    at::Tensor mine = all.narrow(0, rank() * shard.numel(), shard.numel());
    mine.copy_(shard.detach());
    return std::make_unique<HostWork>(inner().all_gather_into(all, std::move(mine), label), all, std::move(full));
  }
  std::unique_ptr<Work> reduce_scatter_into(at::Tensor shard, at::Tensor full, Reduce how, std::string_view label) override {
    if (on_host(full) && on_host(shard)) return ForwardingCollectives::reduce_scatter_into(std::move(shard), std::move(full), how, label);
    check_reduce_scatter(shard, full, how, size(), Memory::any);
    if (size() == 1) return copy_on_device(shard, full);
    const at::Tensor part = empty_on_host(shard);
    return std::make_unique<HostWork>(inner().reduce_scatter_into(part, copied(full), how, label), part, std::move(shard));
  }
  std::unique_ptr<Work> all_reduce(at::Tensor tensor, Reduce how, std::string_view label) override {
    if (on_host(tensor)) return ForwardingCollectives::all_reduce(std::move(tensor), how, label);
    check_all_reduce(tensor, how, Memory::any);
    if (size() == 1) return std::make_unique<DoneWork>();
    const at::Tensor sum = copied(tensor);
    return std::make_unique<HostWork>(inner().all_reduce(sum, how, label), sum, std::move(tensor));
  }
  std::unique_ptr<Work> broadcast(at::Tensor tensor, int root, std::string_view label) override {
    if (on_host(tensor)) return ForwardingCollectives::broadcast(std::move(tensor), root, label);
    check_broadcast(tensor, root, size(), Memory::any);
    if (size() == 1) return std::make_unique<DoneWork>();
    const at::Tensor sent = rank() == root ? copied(tensor) : empty_on_host(tensor);
    return std::make_unique<HostWork>(inner().broadcast(sent, root, label), sent, std::move(tensor));
  }
  std::unique_ptr<Collectives> split(const std::vector<int>& ranks) override { return through_host(inner().split(ranks)); }
};

}  // namespace

std::unique_ptr<Collectives> through_host(std::unique_ptr<Collectives> host) { return std::make_unique<ThroughHost>(std::move(host)); }

}  // namespace tessera
