#include "tessera/collectives/delayed_collectives.h"

#include <ATen/core/Tensor.h>

#include <algorithm>
#include <thread>

#include "tessera/collectives/arguments.h"

namespace tessera {
namespace {

using Clock = std::chrono::steady_clock;

int64_t bytes_of(const at::Tensor& tensor) { return static_cast<int64_t>(tensor.nbytes()); }

}  // namespace

struct DelayedCollectives::Log {
  Clock::time_point link_is_free = {};
  std::vector<CollectiveRecord> records;

  // When the link is through with what is launched now.
  Clock::time_point carry(const Link& link, int64_t bytes, Clock::time_point now) {
    link_is_free = std::max(now, link_is_free);
    if (link.bytes_per_second > 0) {
      const std::chrono::duration<double> takes(static_cast<double>(bytes) / link.bytes_per_second);
      link_is_free += std::chrono::duration_cast<Clock::duration>(takes);
    }
    return link_is_free + link.latency;
  }
};

namespace {

// A template, since the log is DelayedCollectives' own.
template <class Log>
class DelayedWork final : public Work {
 public:
  DelayedWork(std::unique_ptr<Work> inner, Clock::time_point through, std::shared_ptr<Log> log, size_t index)
      : inner_(std::move(inner)), through_(through), log_(std::move(log)), index_(index) {}

  void wait() override {
    const auto begun = Clock::now();
    if (inner_) inner_->wait();
    const auto carried = std::max(Clock::now(), through_);
    std::this_thread::sleep_until(through_);
    CollectiveRecord& record = log_->records[index_];
    if (record.completed != Clock::time_point()) return;  // waited for again
    record.waited = begun;
    record.completed = carried;
  }

 private:
  const std::unique_ptr<Work> inner_;
  const Clock::time_point through_;
  const std::shared_ptr<Log> log_;
  const size_t index_;
};

}  // namespace

DelayedCollectives::DelayedCollectives(std::unique_ptr<Collectives> inner, const Link& link)
    : inner_(std::move(inner)), link_(link), log_(std::make_shared<Log>()) {}
DelayedCollectives::~DelayedCollectives() = default;

int DelayedCollectives::rank() const { return inner_->rank(); }
int DelayedCollectives::size() const { return inner_->size(); }

template <class Start>
std::unique_ptr<Work> DelayedCollectives::launch(const CollectiveOperation& what, int64_t bytes, Start start) {
  const auto now = Clock::now();
  std::unique_ptr<Work> inner = link_.carries ? start() : nullptr;
  const size_t index = log_->records.size();
  std::string label(what.label.data(), what.label_size);
  log_->records.push_back({.number = index, .kind = what.kind, .label = std::move(label), .bytes = bytes, .launched = now});
  return std::make_unique<DelayedWork<Log>>(std::move(inner), log_->carry(link_, bytes, now), log_, index);
}

std::unique_ptr<Work> DelayedCollectives::all_gather_into(at::Tensor full, at::Tensor shard, std::string_view label) {
  check_all_gather(full, shard, size(), Memory::any);
  return launch(operation(CollectiveKind::all_gather, shard, label), bytes_of(shard) * (size() - 1),
                [&] { return inner_->all_gather_into(full, shard, label); });
}
std::unique_ptr<Work> DelayedCollectives::reduce_scatter_into(at::Tensor shard, at::Tensor full, Reduce how, std::string_view label) {
  check_reduce_scatter(shard, full, how, size(), Memory::any);
  return launch(operation(CollectiveKind::reduce_scatter, shard, label, how), bytes_of(shard) * (size() - 1),
                [&] { return inner_->reduce_scatter_into(shard, full, how, label); });
}
std::unique_ptr<Work> DelayedCollectives::all_reduce(at::Tensor tensor, Reduce how, std::string_view label) {
  check_all_reduce(tensor, how, Memory::any);
  return launch(operation(CollectiveKind::all_reduce, tensor, label, how), 2 * bytes_of(tensor) * (size() - 1) / size(),
                [&] { return inner_->all_reduce(tensor, how, label); });
}
std::unique_ptr<Work> DelayedCollectives::broadcast(at::Tensor tensor, int root, std::string_view label) {
  check_broadcast(tensor, root, size(), Memory::any);
  return launch(operation(CollectiveKind::broadcast, tensor, label, Reduce::sum, root), size() > 1 ? bytes_of(tensor) : 0,
                [&] { return inner_->broadcast(tensor, root, label); });
}

std::unique_ptr<Collectives> DelayedCollectives::split(const std::vector<int>& ranks) {
  return std::make_unique<DelayedCollectives>(inner_->split(ranks), link_);
}
void DelayedCollectives::abort(const Fault& fault) { inner_->abort(fault); }

std::vector<CollectiveRecord> DelayedCollectives::records() const { return log_->records; }

std::map<CollectiveKind, CollectiveCount> DelayedCollectives::counts() const {
  std::map<CollectiveKind, CollectiveCount> counts;
  for (const CollectiveRecord& record : log_->records) {
    ++counts[record.kind].operations;
    counts[record.kind].bytes += record.bytes;
  }
  return counts;
}

}  // namespace tessera
