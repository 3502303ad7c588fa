#include "tessera/collectives/across_hosts.h"

#include <ATen/ops/full.h>

#include <algorithm>
#include <utility>

#include "tessera/collectives/shared_collectives.h"

namespace tessera {
namespace {

class AcrossHosts final : public Collectives {
 public:
  AcrossHosts(std::unique_ptr<Collectives> sockets, Members members, std::vector<int> hosts, Comm& control, Milliseconds deadline)
      : sockets_(std::move(sockets)), members_(std::move(members)), hosts_(std::move(hosts)), control_(control), deadline_(deadline) {}

  int rank() const override { return sockets_->rank(); }
  int size() const override { return sockets_->size(); }
  std::unique_ptr<Work> all_gather_into(at::Tensor full, at::Tensor shard, std::string_view label) override {
    return sockets_->all_gather_into(std::move(full), std::move(shard), label);
  }
  std::unique_ptr<Work> reduce_scatter_into(at::Tensor shard, at::Tensor full, Reduce how, std::string_view label) override {
    return sockets_->reduce_scatter_into(std::move(shard), std::move(full), how, label);
  }
  std::unique_ptr<Work> all_reduce(at::Tensor tensor, Reduce how, std::string_view label) override {
    return sockets_->all_reduce(std::move(tensor), how, label);
  }
  std::unique_ptr<Work> broadcast(at::Tensor tensor, int root, std::string_view label) override {
    return sockets_->broadcast(std::move(tensor), root, label);
  }
  void abort(const Fault& fault) override { sockets_->abort(fault); }

  std::unique_ptr<Collectives> split(const std::vector<int>& ranks) override {
    Members group = agree_on_split(*sockets_, members_, ranks);
    if (each_group_has_one_host(group)) {
      auto shared = capture([&] { return shared_group(*sockets_, group, ranks.front(), control_, deadline_); });
      // One rank's trouble is everyone's Error(unsupported), so that all groups turn to sockets or none does.
      if (shared || shared.fault.code != Code::unsupported) return std::move(shared).or_throw();
    }
    return across_hosts(sockets_->split(ranks), std::move(group), hosts_, control_, deadline_);
  }

 private:
  // The same on all ranks of all groups.
  bool each_group_has_one_host(const Members& group) {
    const auto host = [&](int job_rank) { return hosts_[static_cast<size_t>(job_rank)]; };
    const bool has = std::ranges::all_of(group.ranks, [&](int r) { return host(r) == host(group.ranks.front()); });
    const at::Tensor without = at::full({1}, has ? 0 : 1, at::kInt);
    sockets_->all_reduce(without, Reduce::max, "split")->wait();
    return without.const_data_ptr<int>()[0] == 0;
  }

  const std::unique_ptr<Collectives> sockets_;
  const Members members_;
  const std::vector<int> hosts_;
  Comm& control_;
  const Milliseconds deadline_;
};

}  // namespace

std::unique_ptr<Collectives> across_hosts(std::unique_ptr<Collectives> sockets, Members members, std::vector<int> hosts, Comm& control,
                                          Milliseconds deadline) {
  return std::make_unique<AcrossHosts>(std::move(sockets), std::move(members), std::move(hosts), control, deadline);
}

}  // namespace tessera
