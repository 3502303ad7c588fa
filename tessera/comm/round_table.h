// tessera/comm/round_table.h: who has arrived at the round, who is missed, and when that is an error.
// The leader's side of every Comm, as a value: it neither waits nor sends, and is told the time.
// Invariants  I1 One round is open at a time. It is complete once every rank has arrived, and the next one opens when the leader has
// answered.
//             I2 Once broken, it stays broken by the first fault.
#pragma once

#include <algorithm>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "tessera/base/bytes.h"
#include "tessera/base/deadline.h"
#include "tessera/base/error.h"
#include "tessera/comm/activity.h"

namespace tessera {

class RoundTable {
 public:
  using Time = Deadline::Clock::time_point;

  RoundTable(int ranks, Milliseconds deadline);

  // The rank's message of its next round. One whose purpose differs from that of the others breaks the table.
  void arrive(int rank, std::string_view purpose, Bytes message, Time now);
  bool complete() const { return arrived_ == ranks_.size(); }
  // The messages of a complete round, in rank order; the leader then owes an answer.
  std::vector<Bytes> take_messages();
  void answered();

  // What the rank is doing and how far it is (activity.h); also progress. progress() is that alone, and hear() a sign of life without any.
  void note(int rank, std::string_view doing, Time now) { note(rank, doing, 0, 0, now); }
  void note(int rank, std::string_view doing, int64_t done_bytes, int64_t total_bytes, Time now);
  void progress(int rank, Time now);
  void hear(int rank, Time now);

  // The rank closed its Comm. That is an error only once others wait for it.
  void leave(int rank);
  bool has_left(int rank) const { return at(rank).left; }
  bool all_left() const;
  // The rank is gone without a word: breaks the table. `how` is a clause: "its connection closed".
  void lose(int rank, std::string_view how);
  std::string doing(int rank) const { return describe(at(rank).activity); }

  void break_with(const Fault& fault);
  const std::optional<Fault>& broken() const { return broken_; }

  // Breaks the table if a rank that others wait for has made no progress for the deadline, since they began to wait.
  // Returns when to look again; nothing while nobody waits.
  std::optional<Time> check(Time now);

 private:
  struct Rank {
    Activity activity = {};
    Time progress = Time::min();
    Time heard = Time::min();  // for ever where nobody beats
    std::optional<Bytes> message = {};
    bool here = false;  // in the open round
    bool left = false;
  };
  const Rank& at(int rank) const { return ranks_[static_cast<size_t>(rank)]; }
  Rank& at(int rank) { return ranks_[static_cast<size_t>(rank)]; }
  // Those that the open round waits for: whoever has not arrived, then the leader.
  std::vector<int> missing() const;
  void break_if_one_left();
  Time late_at(int rank) const { return std::max(at(rank).progress, waiting_since_) + deadline_; }
  std::string with_doings(std::vector<int> ranks, Time now) const;
  std::string with_doing(int rank, Time now) const;

  std::vector<Rank> ranks_;
  Milliseconds deadline_;
  size_t arrived_ = 0;
  uint64_t number_ = 0;
  std::string purpose_;
  Time waiting_since_ = Time::min();
  std::optional<Fault> broken_;
};

}  // namespace tessera
