#include "tessera/comm/thread_comm.h"

#include <cassert>
#include <optional>

#include "tessera/base/guarded.h"
#include "tessera/comm/lines.h"

namespace tessera {
namespace {

using Clock = Deadline::Clock;

struct State {
  Lines lines;
  std::map<std::pair<Lines::Number, int>, Outcome<Bytes>> answers = {};  // from the leader's answer until the rank takes it
};

struct Shared {
  Shared(int ranks, Milliseconds deadline) : state(State{Lines(ranks, deadline)}) {}
  Guarded<State> state;
};

// One line of one rank.
class ThreadComm final : public Comm {
 public:
  ThreadComm(std::shared_ptr<Shared> shared, int rank, int size, Milliseconds deadline, Lines::Number line)
      : shared_(std::move(shared)), rank_(rank), size_(size), deadline_(deadline), line_(line) {}
  ~ThreadComm() override {
    shared_->state.with([&](State& state) { state.lines.leave(rank_, line_); });
  }

  int rank() const override { return rank_; }
  int size() const override { return size_; }

  Bytes round(std::string_view purpose, Bytes mine, const Combine& combine) override {
    shared_->state.with([&](State& state) {
      state.lines.arrive(rank_, line_, purpose, std::move(mine), Clock::now());
      throw_if_broken(table(state));
    });
    if (rank_ == 0) lead(combine);
    return take_answer();
  }

  void note(std::string_view doing, int64_t done_bytes, int64_t total_bytes) override {
    shared_->state.with([&](State& state) { table(state).note(rank_, doing, done_bytes, total_bytes, Clock::now()); });
  }

  void abort(const Fault& fault) override {
    shared_->state.with([&](State& state) { state.lines.break_with(fault); });
  }

  std::optional<Fault> failure() override {
    return shared_->state.with([&](State& state) { return table(state).broken(); });
  }

  std::unique_ptr<Comm> line() override {
    const Lines::Number opened = shared_->state.with([&](State& state) { return state.lines.open(rank_); });
    return std::make_unique<ThreadComm>(shared_, rank_, size_, deadline_, opened);
  }

 private:
  RoundTable& table(State& state) const { return state.lines.at(rank_, line_); }
  static void throw_if_broken(const RoundTable& table) {
    if (table.broken()) throw Error(*table.broken());
  }

  void lead(const Combine& combine) {
    std::vector<Bytes> messages;
    wait([&](State& state) { return table(state).complete() && !table(state).broken(); },
         [&](State& state) { messages = table(state).take_messages(); });
    Outcome<std::vector<Bytes>> combined = capture([&] { return combine(std::move(messages)); });
    assert(!combined || combined.value->size() == static_cast<size_t>(size_));  // a Combine answers every rank
    shared_->state.with([&](State& state) {
      throw_if_broken(table(state));
      for (int r = 0; r < size_; ++r) {
        state.answers[{line_, r}] =
            combined ? Outcome<Bytes>{std::move((*combined.value)[static_cast<size_t>(r)])} : Outcome<Bytes>{std::nullopt, combined.fault};
      }
      table(state).answered();
    });
  }

  Bytes take_answer() {
    Outcome<Bytes> answer;
    const std::pair mine(line_, rank_);
    wait([&](State& state) { return state.answers.contains(mine); },
         [&](State& state) { answer = std::move(state.answers.extract(mine).mapped()); });
    return std::move(answer).or_throw();
  }

  // Waits until `ready`, then does `work`; for as long as those that the round waits for make progress.
  template <class Ready, class Work>
  void wait(Ready ready, Work work) {
    auto until = Clock::now() + deadline_;
    for (;;) {
      const auto left = std::chrono::ceil<Milliseconds>(until - Clock::now());
      const bool done = shared_->state.when(
          Deadline::after(left), [&](State& state) { return ready(state) || table(state).broken(); },
          [&](State& state) {
            if (!ready(state)) throw_if_broken(table(state));
            work(state);
          });
      if (done) return;
      until = shared_->state.with([&](State& state) { return state.lines.check(Clock::now()); }).value_or(Clock::now() + deadline_);
    }
  }

  const std::shared_ptr<Shared> shared_;
  const int rank_;
  const int size_;
  const Milliseconds deadline_;
  const Lines::Number line_;
};

}  // namespace

std::vector<std::unique_ptr<Comm>> thread_comms(int ranks, Milliseconds deadline) {
  const auto shared = std::make_shared<Shared>(ranks, deadline);
  std::vector<std::unique_ptr<Comm>> comms;
  for (int r = 0; r < ranks; ++r) comms.push_back(std::make_unique<ThreadComm>(shared, r, ranks, deadline, 0));
  return comms;
}

}  // namespace tessera
