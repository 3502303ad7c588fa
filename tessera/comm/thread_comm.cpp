#include "tessera/comm/thread_comm.h"

#include <cassert>
#include <optional>

#include "tessera/base/guarded.h"
#include "tessera/comm/round_table.h"

namespace tessera {
namespace {

using Clock = Deadline::Clock;

struct Table {
  RoundTable rounds;
  std::vector<std::optional<Outcome<Bytes>>> answers;  // from the leader's answer until the rank takes it
};

struct Shared {
  Shared(int ranks, Milliseconds deadline)
      : table(Table{RoundTable(ranks, deadline), std::vector<std::optional<Outcome<Bytes>>>(static_cast<size_t>(ranks))}) {}
  Guarded<Table> table;
};

class ThreadComm final : public Comm {
 public:
  ThreadComm(std::shared_ptr<Shared> shared, int rank, int size, Milliseconds deadline)
      : shared_(std::move(shared)), rank_(rank), size_(size), deadline_(deadline) {}
  ~ThreadComm() override {
    shared_->table.with([&](Table& table) { table.rounds.leave(rank_); });
  }

  int rank() const override { return rank_; }
  int size() const override { return size_; }

  Bytes round(std::string_view purpose, Bytes mine, const Combine& combine) override {
    shared_->table.with([&](Table& table) {
      table.rounds.arrive(rank_, purpose, std::move(mine), Clock::now());
      throw_if_broken(table);
    });
    if (rank_ == 0) lead(combine);
    return take_answer();
  }

  void note(std::string_view doing) override {
    shared_->table.with([&](Table& table) { table.rounds.note(rank_, doing, Clock::now()); });
  }

  void abort(const Fault& fault) override {
    shared_->table.with([&](Table& table) { table.rounds.break_with(fault); });
  }

  std::optional<Fault> failure() override {
    return shared_->table.with([](Table& table) { return table.rounds.broken(); });
  }

 private:
  static void throw_if_broken(const Table& table) {
    if (table.rounds.broken()) throw Error(*table.rounds.broken());
  }

  void lead(const Combine& combine) {
    std::vector<Bytes> messages;
    wait([](const Table& table) { return table.rounds.complete() && !table.rounds.broken(); },
         [&](Table& table) { messages = table.rounds.take_messages(); });
    Outcome<std::vector<Bytes>> combined = capture([&] { return combine(std::move(messages)); });
    assert(!combined || combined.value->size() == static_cast<size_t>(size_));  // a Combine answers every rank
    shared_->table.with([&](Table& table) {
      throw_if_broken(table);
      for (size_t r = 0; r < table.answers.size(); ++r) {
        table.answers[r] = combined ? Outcome<Bytes>{std::move((*combined.value)[r])} : Outcome<Bytes>{std::nullopt, combined.fault};
      }
      table.rounds.answered();
    });
  }

  Bytes take_answer() {
    Outcome<Bytes> answer;
    const auto r = static_cast<size_t>(rank_);
    wait([&](const Table& table) { return table.answers[r].has_value(); },
         [&](Table& table) {
           answer = std::move(*table.answers[r]);
           table.answers[r].reset();
         });
    return std::move(answer).or_throw();
  }

  // Waits until `ready`, then does `work`; for as long as those that the round waits for make progress.
  template <class Ready, class Work>
  void wait(Ready ready, Work work) {
    auto until = Clock::now() + deadline_;
    for (;;) {
      const auto left = std::chrono::ceil<Milliseconds>(until - Clock::now());
      const bool done = shared_->table.when(
          Deadline::after(left), [&](const Table& table) { return ready(table) || table.rounds.broken(); },
          [&](Table& table) {
            if (!ready(table)) throw_if_broken(table);
            work(table);
          });
      if (done) return;
      until = shared_->table.with([&](Table& table) { return table.rounds.check(Clock::now()); }).value_or(Clock::now() + deadline_);
    }
  }

  const std::shared_ptr<Shared> shared_;
  const int rank_;
  const int size_;
  const Milliseconds deadline_;
};

}  // namespace

std::vector<std::unique_ptr<Comm>> thread_comms(int ranks, Milliseconds deadline) {
  const auto shared = std::make_shared<Shared>(ranks, deadline);
  std::vector<std::unique_ptr<Comm>> comms;
  for (int r = 0; r < ranks; ++r) comms.push_back(std::make_unique<ThreadComm>(shared, r, ranks, deadline));
  return comms;
}

}  // namespace tessera
