#include "tessera/comm/thread_comm.h"

#include <algorithm>
#include <cassert>
#include <map>
#include <optional>

#include "tessera/base/guarded.h"

namespace tessera {
namespace {

using Clock = Deadline::Clock;

// One round trip, from the first rank's arrival until the last one has its answer.
struct Round {
  std::string purpose;
  std::vector<std::optional<Bytes>> messages;
  size_t arrived = 0;
  bool answered = false;
  std::vector<Bytes> answers;
  std::optional<Fault> refused;  // the leader's Combine threw
  size_t taken = 0;
};

struct RankStatus {
  uint64_t rounds = 0;
  std::string doing = "starting";
  Clock::time_point progress = Clock::now();
};

struct Table {
  std::vector<RankStatus> ranks;
  std::map<uint64_t, Round> rounds;
  std::optional<Fault> broken;
};

struct Shared {
  explicit Shared(size_t ranks) { table.with([&](Table& t) { t.ranks.resize(ranks); }); }
  Guarded<Table> table;
};

class ThreadComm final : public Comm {
 public:
  ThreadComm(std::shared_ptr<Shared> shared, int rank, int size, Milliseconds deadline)
      : shared_(std::move(shared)), rank_(rank), size_(size), deadline_(deadline) {}

  int rank() const override { return rank_; }
  int size() const override { return size_; }

  Bytes round(std::string_view purpose, Bytes mine, const Combine& combine) override {
    const uint64_t number = arrive(purpose, std::move(mine));
    if (rank_ == 0) lead(number, combine);
    return take_answer(number);
  }

  void note(std::string_view doing) override {
    shared_->table.with([&](Table& table) {
      auto& status = table.ranks[static_cast<size_t>(rank_)];
      status.doing = doing;
      status.progress = Clock::now();
    });
  }

  void abort(const Fault& fault) override {
    shared_->table.with([&](Table& table) {
      if (!table.broken) table.broken = fault;
    });
  }

 private:
  static void throw_if_broken(const Table& table) {
    if (table.broken) throw Error(*table.broken);
  }

  uint64_t arrive(std::string_view purpose, Bytes mine) {
    return shared_->table.with([&](Table& table) {
      throw_if_broken(table);
      auto& status = table.ranks[static_cast<size_t>(rank_)];
      status.progress = Clock::now();
      const uint64_t number = status.rounds++;
      Round& round = table.rounds[number];
      if (round.arrived == 0) {
        round.purpose = purpose;
        round.messages.resize(static_cast<size_t>(size_));
      } else if (round.purpose != purpose) {
        table.broken = Fault{.code = Code::internal, .what = "ranks took different ways: round " + std::to_string(number) + " is '" + round.purpose +
                                                             "' on others and '" + std::string(purpose) + "' on rank " + std::to_string(rank_)};
        throw_if_broken(table);
      }
      round.messages[static_cast<size_t>(rank_)] = std::move(mine);
      ++round.arrived;
      return number;
    });
  }

  void lead(uint64_t number, const Combine& combine) {
    std::vector<Bytes> messages;
    wait(number, [&](const Round& round) { return round.arrived == static_cast<size_t>(size_); },
         [&](Round& round) {
           for (auto& message : round.messages) messages.push_back(std::move(*message));
         });
    Outcome<std::vector<Bytes>> combined = capture([&] { return combine(std::move(messages)); });
    assert(!combined || combined.value->size() == static_cast<size_t>(size_));  // a Combine answers every rank
    shared_->table.with([&](Table& table) {
      Round& round = table.rounds.at(number);
      if (combined) round.answers = std::move(*combined.value);
      else round.refused = std::move(combined.fault);
      round.answered = true;
      table.ranks[0].progress = Clock::now();
    });
  }

  Bytes take_answer(uint64_t number) {
    Bytes answer;
    std::optional<Fault> refused;
    wait(number, [](const Round& round) { return round.answered; },
         [&](Round& round) {
           if (round.refused) refused = round.refused;
           else answer = std::move(round.answers[static_cast<size_t>(rank_)]);
           ++round.taken;
         });
    shared_->table.with([&](Table& table) {
      const auto round = table.rounds.find(number);
      if (round != table.rounds.end() && round->second.taken == static_cast<size_t>(size_)) table.rounds.erase(round);
    });
    if (refused) throw Error(std::move(*refused));
    return answer;
  }

  // Waits until the round is `ready`, for as long as those it waits for make progress.
  template <class Ready, class Work>
  void wait(uint64_t number, Ready ready, Work work) {
    auto until = Deadline::after(deadline_);
    for (;;) {
      const bool done = shared_->table.when(
          until, [&](const Table& table) { return table.broken || ready(table.rounds.at(number)); },
          [&](Table& table) {
            throw_if_broken(table);
            work(table.rounds.at(number));
          });
      if (done) return;
      until = shared_->table.with([&](Table& table) { return deadline_of(table, number); });
    }
  }

  // When to give up, given the progress of the ranks that are missing; throws if that moment has passed.
  Deadline deadline_of(Table& table, uint64_t number) {
    const Round& round = table.rounds.at(number);
    auto latest = Clock::time_point::min();
    std::string missing;
    for (size_t r = 0; r < table.ranks.size(); ++r) {
      const bool waited_for = round.arrived < static_cast<size_t>(size_) ? !round.messages[r].has_value() : r == 0;
      if (!waited_for) continue;
      latest = std::max(latest, table.ranks[r].progress);
      missing += (missing.empty() ? "rank " : "; rank ") + std::to_string(r) + " was last seen at: " + table.ranks[r].doing;
    }
    const auto left = std::chrono::duration_cast<Milliseconds>(latest + deadline_ - Clock::now());
    if (left > Milliseconds(0)) return Deadline::after(left);
    table.broken = Fault{.code = Code::timeout, .what = "no progress for " + std::to_string(deadline_.count()) + " ms while waiting for '" + round.purpose + "': " + missing};
    throw Error(*table.broken);
  }

  const std::shared_ptr<Shared> shared_;
  const int rank_;
  const int size_;
  const Milliseconds deadline_;
};

}  // namespace

std::vector<std::unique_ptr<Comm>> thread_comms(int ranks, Milliseconds deadline) {
  const auto shared = std::make_shared<Shared>(static_cast<size_t>(ranks));
  std::vector<std::unique_ptr<Comm>> comms;
  for (int r = 0; r < ranks; ++r) comms.push_back(std::make_unique<ThreadComm>(shared, r, ranks, deadline));
  return comms;
}

}  // namespace tessera
