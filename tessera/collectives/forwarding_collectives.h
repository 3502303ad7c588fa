// tessera/collectives/forwarding_collectives.h: a Collectives that leaves all but split() to another, for those that change one thing of
// it.
#pragma once

#include <ATen/core/Tensor.h>

#include <memory>
#include <utility>

#include "tessera/collectives/collectives.h"

namespace tessera {

class ForwardingCollectives : public Collectives {
 public:
  explicit ForwardingCollectives(std::unique_ptr<Collectives> inner) : inner_(std::move(inner)) {}
  int rank() const override { return inner_->rank(); }
  int size() const override { return inner_->size(); }
  std::unique_ptr<Work> all_gather_into(at::Tensor full, at::Tensor shard, std::string_view label) override {
    return inner_->all_gather_into(std::move(full), std::move(shard), label);
  }
  std::unique_ptr<Work> reduce_scatter_into(at::Tensor shard, at::Tensor full, Reduce how, std::string_view label) override {
    return inner_->reduce_scatter_into(std::move(shard), std::move(full), how, label);
  }
  std::unique_ptr<Work> all_reduce(at::Tensor tensor, Reduce how, std::string_view label) override {
    return inner_->all_reduce(std::move(tensor), how, label);
  }
  std::unique_ptr<Work> broadcast(at::Tensor tensor, int root, std::string_view label) override {
    return inner_->broadcast(std::move(tensor), root, label);
  }
  void abort(const Fault& fault) override { inner_->abort(fault); }

 protected:
  Collectives& inner() const { return *inner_; }

 private:
  const std::unique_ptr<Collectives> inner_;
};

}  // namespace tessera
