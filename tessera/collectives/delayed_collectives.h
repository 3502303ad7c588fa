// tessera/collectives/delayed_collectives.h: a Collectives as if over a slower link, which counts and records what passes. For tests of
// overlap, and for benches.
// Delay       The link carries one operation after the other, in the order of their launch: each takes its bytes over the bandwidth, then
//             the latency. wait() returns when both the link and what is wrapped are through. Computing meanwhile costs nothing extra.
// Bytes       Those that a rank sends: of n ranks' whole of b bytes, all_gather and reduce_scatter (n−1)/n·b, all_reduce twice that, a
//             broadcast b.
// Threads     As any Collectives; the records are read by the rank's thread. What is split from it has a link and records of its own.
#pragma once

#include <chrono>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "tessera/collectives/collective_operation.h"
#include "tessera/collectives/collectives.h"

namespace tessera {

struct Link {
  std::chrono::nanoseconds latency{0};
  double bytes_per_second = 0;  // 0: no matter how many
  bool carries = true;          // false: nothing is handed over at all, so that only a rank's own work is seen
};

struct CollectiveRecord {
  using Time = std::chrono::steady_clock::time_point;
  uint64_t number = 0;
  CollectiveKind kind = CollectiveKind::all_gather;
  std::string label;
  int64_t bytes = 0;
  Time launched = {};
  Time waited = {};     // when the rank began to wait for it; of no meaning until it did
  Time completed = {};  // as its wait saw it; likewise
};

struct CollectiveCount {
  int64_t operations = 0;
  int64_t bytes = 0;
};

class DelayedCollectives final : public Collectives {
 public:
  DelayedCollectives(std::unique_ptr<Collectives> inner, const Link& link);
  ~DelayedCollectives() override;

  int rank() const override;
  int size() const override;
  std::unique_ptr<Work> all_gather_into(at::Tensor full, at::Tensor shard, std::string_view label = {}) override;
  std::unique_ptr<Work> reduce_scatter_into(at::Tensor shard, at::Tensor full, Reduce how, std::string_view label = {}) override;
  std::unique_ptr<Work> all_reduce(at::Tensor tensor, Reduce how, std::string_view label = {}) override;
  std::unique_ptr<Work> broadcast(at::Tensor tensor, int root, std::string_view label = {}) override;
  std::unique_ptr<Collectives> split(const std::vector<int>& ranks) override;
  void abort(const Fault& fault) override;

  // In the order of the launches.
  std::vector<CollectiveRecord> records() const;
  std::map<CollectiveKind, CollectiveCount> counts() const;

 private:
  struct Log;
  template <class Start>
  std::unique_ptr<Work> launch(const CollectiveOperation& what, int64_t bytes, Start start);

  const std::unique_ptr<Collectives> inner_;
  const Link link_;
  const std::shared_ptr<Log> log_;  // outlived by no Work
};

}  // namespace tessera
