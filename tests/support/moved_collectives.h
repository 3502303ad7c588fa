// tests/support/moved_collectives.h: a Collectives that moves its tensors to a device for the time of each operation, so that what is
// promised of host memory is tested of a device's.
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty_strided.h>

#include <memory>
#include <utility>
#include <vector>

#include "tessera/collectives/collectives.h"

namespace tessera {

class MovedCollectives final : public Collectives {
 public:
  MovedCollectives(std::unique_ptr<Collectives> inner, at::Device device) : inner_(std::move(inner)), device_(device) {}
  int rank() const override { return inner_->rank(); }
  int size() const override { return inner_->size(); }
  std::unique_ptr<Work> all_gather_into(at::Tensor full, at::Tensor shard, std::string_view label) override {
    const at::Tensor there = moved(full);
    return back(inner_->all_gather_into(there, moved(shard), label), there, full);
  }
  std::unique_ptr<Work> reduce_scatter_into(at::Tensor shard, at::Tensor full, Reduce how, std::string_view label) override {
    const bool inside = shard.is_alias_of(full);  // which is to be refused
    const at::Tensor whole = moved(full);
    const at::Tensor there = inside ? whole.narrow(0, shard.storage_offset() - full.storage_offset(), shard.numel()) : moved(shard);
    return back(inner_->reduce_scatter_into(there, whole, how, label), there, shard);
  }
  std::unique_ptr<Work> all_reduce(at::Tensor tensor, Reduce how, std::string_view label) override {
    const at::Tensor there = moved(tensor);
    return back(inner_->all_reduce(there, how, label), there, tensor);
  }
  std::unique_ptr<Work> broadcast(at::Tensor tensor, int root, std::string_view label) override {
    const at::Tensor there = moved(tensor);
    return back(inner_->broadcast(there, root, label), there, tensor);
  }
  std::unique_ptr<Collectives> split(const std::vector<int>& ranks) override {
    return std::make_unique<MovedCollectives>(inner_->split(ranks), device_);
  }
  void abort(const Fault& fault) override { inner_->abort(fault); }

 private:
  struct Back final : Work {
    Back(std::unique_ptr<Work> inner, at::Tensor from, at::Tensor to) : inner(std::move(inner)), from(std::move(from)), to(std::move(to)) {}
    void wait() override {
      inner->wait();
      to.detach().copy_(from);
    }
    std::unique_ptr<Work> inner;
    at::Tensor from, to;
  };
  // With the strides that it has.
  at::Tensor moved(const at::Tensor& tensor) const {
    if (!tensor.defined()) return tensor;
    return at::empty_strided(tensor.sizes(), tensor.strides(), tensor.options().device(device_).requires_grad(false))
        .copy_(tensor.detach());
  }
  static std::unique_ptr<Work> back(std::unique_ptr<Work> inner, at::Tensor from, at::Tensor to) {
    return std::make_unique<Back>(std::move(inner), std::move(from), std::move(to));
  }

  const std::unique_ptr<Collectives> inner_;
  const at::Device device_;
};

}  // namespace tessera
