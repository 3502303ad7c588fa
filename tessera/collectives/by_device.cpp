#include "tessera/collectives/by_device.h"

#include <utility>

namespace tessera {
namespace {

class ByDevice final : public Collectives {
 public:
  ByDevice(std::unique_ptr<Collectives> host, std::unique_ptr<Collectives> gpu) : host_(std::move(host)), gpu_(std::move(gpu)) {}

  int rank() const override { return host_->rank(); }
  int size() const override { return host_->size(); }
  std::unique_ptr<Work> all_gather_into(at::Tensor full, at::Tensor shard, std::string_view label) override {
    return of(full).all_gather_into(std::move(full), std::move(shard), label);
  }
  std::unique_ptr<Work> reduce_scatter_into(at::Tensor shard, at::Tensor full, Reduce how, std::string_view label) override {
    return of(full).reduce_scatter_into(std::move(shard), std::move(full), how, label);
  }
  std::unique_ptr<Work> all_reduce(at::Tensor tensor, Reduce how, std::string_view label) override {
    return of(tensor).all_reduce(std::move(tensor), how, label);
  }
  std::unique_ptr<Work> broadcast(at::Tensor tensor, int root, std::string_view label) override {
    return of(tensor).broadcast(std::move(tensor), root, label);
  }
  // In host memory the ranks agree on the groups, which the GPU's then take at their word.
  std::unique_ptr<Collectives> split(const std::vector<int>& ranks) override {
    auto host = host_->split(ranks);
    return by_device(std::move(host), gpu_->split(ranks));
  }
  void abort(const Fault& fault) override {
    host_->abort(fault);
    gpu_->abort(fault);
  }

 private:
  Collectives& of(const at::Tensor& tensor) const { return tensor.defined() && !tensor.is_cpu() ? *gpu_ : *host_; }

  const std::unique_ptr<Collectives> host_;
  const std::unique_ptr<Collectives> gpu_;
};

}  // namespace

std::unique_ptr<Collectives> by_device(std::unique_ptr<Collectives> host, std::unique_ptr<Collectives> gpu) {
  return std::make_unique<ByDevice>(std::move(host), std::move(gpu));
}

}  // namespace tessera
