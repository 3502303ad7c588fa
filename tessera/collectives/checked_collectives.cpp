#include "tessera/collectives/checked_collectives.h"

#include <ATen/ops/empty.h>

#include <cstring>
#include <optional>

#include "tessera/collectives/arguments.h"
#include "tessera/collectives/collective_operation.h"

namespace tessera {
namespace {

class CheckedCollectives final : public Collectives {
 public:
  CheckedCollectives(std::unique_ptr<Collectives> inner, std::vector<int> job_ranks)
      : inner_(std::move(inner)), job_ranks_(std::move(job_ranks)) {}

  int rank() const override { return inner_->rank(); }
  int size() const override { return inner_->size(); }

  std::unique_ptr<Work> all_gather_into(at::Tensor full, at::Tensor shard, std::string_view label) override {
    check_all_gather(full, shard, size());
    agree(operation(CollectiveKind::all_gather, shard, label));
    return inner_->all_gather_into(std::move(full), std::move(shard), label);
  }
  std::unique_ptr<Work> reduce_scatter_into(at::Tensor shard, at::Tensor full, Reduce how, std::string_view label) override {
    check_reduce_scatter(shard, full, how, size());
    agree(operation(CollectiveKind::reduce_scatter, shard, label, how));
    return inner_->reduce_scatter_into(std::move(shard), std::move(full), how, label);
  }
  std::unique_ptr<Work> all_reduce(at::Tensor tensor, Reduce how, std::string_view label) override {
    check_all_reduce(tensor, how);
    agree(operation(CollectiveKind::all_reduce, tensor, label, how));
    return inner_->all_reduce(std::move(tensor), how, label);
  }
  std::unique_ptr<Work> broadcast(at::Tensor tensor, int root, std::string_view label) override {
    check_broadcast(tensor, root, size());
    agree(operation(CollectiveKind::broadcast, tensor, label, Reduce::sum, root));
    return inner_->broadcast(std::move(tensor), root, label);
  }

  std::unique_ptr<Collectives> split(const std::vector<int>& ranks) override {
    std::unique_ptr<Collectives> group = inner_->split(ranks);
    std::vector<int> job_ranks;
    for (const int r : ranks) job_ranks.push_back(job_ranks_[static_cast<size_t>(r)]);
    return std::make_unique<CheckedCollectives>(std::move(group), std::move(job_ranks));
  }
  void abort(const Fault& fault) override { inner_->abort(fault); }

 private:
  void agree(CollectiveOperation mine) {
    mine.number = launched_++;
    if (broken_) throw Error(*broken_);
    const at::Tensor one = at::empty({static_cast<int64_t>(sizeof mine)}, at::kByte);
    std::memcpy(one.mutable_data_ptr(), &mine, sizeof mine);
    const at::Tensor all = at::empty({one.numel() * size()}, at::kByte);
    inner_->all_gather_into(all, one, "order")->wait();
    for (int p = 0; p < size(); ++p) {
      CollectiveOperation other;
      std::memcpy(&other, static_cast<const std::byte*>(all.const_data_ptr()) + p * one.numel(), sizeof other);
      if (other == mine) continue;
      broken_ = different_ways(job_rank(p), other, job_rank(rank()), mine);
      throw Error(*broken_);
    }
  }
  int job_rank(int place) const { return job_ranks_[static_cast<size_t>(place)]; }

  const std::unique_ptr<Collectives> inner_;
  const std::vector<int> job_ranks_;
  uint64_t launched_ = 0;
  std::optional<Fault> broken_;
};

}  // namespace

std::unique_ptr<Collectives> checked_collectives(std::unique_ptr<Collectives> inner, std::vector<int> job_ranks) {
  return std::make_unique<CheckedCollectives>(std::move(inner), std::move(job_ranks));
}

}  // namespace tessera
