#include "tessera/collectives/across_hosts.h"

#include <ATen/ops/full.h>

#include <algorithm>
#include <utility>

#include "tessera/collectives/forwarding_collectives.h"
#include "tessera/collectives/shared_collectives.h"

namespace tessera {
namespace {

class AcrossHosts final : public ForwardingCollectives {
 public:
  AcrossHosts(std::unique_ptr<Collectives> sockets, Members members, std::vector<int> hosts, Comm& control, Milliseconds deadline)
      : ForwardingCollectives(std::move(sockets)),
        members_(std::move(members)),
        hosts_(std::move(hosts)),
        control_(control),
        deadline_(deadline) {}

  std::unique_ptr<Collectives> split(const std::vector<int>& ranks) override {
    Members group = agree_on_split(inner(), members_, ranks);
    if (each_group_has_one_host(group)) {
      auto shared = capture([&] { return shared_group(inner(), group, ranks.front(), control_, deadline_); });
      // One rank's trouble is everyone's Error(unsupported), so that all groups turn to sockets or none does.
      if (shared || shared.fault.code != Code::unsupported) return std::move(shared).or_throw();
    }
    return across_hosts(inner().split(ranks), std::move(group), hosts_, control_, deadline_);
  }

 private:
  // The same on all ranks of all groups.
  bool each_group_has_one_host(const Members& group) {
    const auto host = [&](int job_rank) { return hosts_[static_cast<size_t>(job_rank)]; };
    const bool has = std::ranges::all_of(group.ranks, [&](int r) { return host(r) == host(group.ranks.front()); });
    const at::Tensor without = at::full({1}, has ? 0 : 1, at::kInt);
    inner().all_reduce(without, Reduce::max, "split")->wait();
    return without.const_data_ptr<int>()[0] == 0;
  }

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
