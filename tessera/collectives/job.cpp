#include "tessera/collectives/job.h"

#include <exception>

#include "tessera/collectives/job_state.h"

namespace tessera {

Job::State::~State() {
  if (!comm || turns || std::uncaught_exceptions() == 0) return;
  comm->abort({.code = Code::peer_lost, .what = "rank " + std::to_string(comm->rank()) + " is gone: it ended with an error of its own"});
}

Job::Job(std::shared_ptr<State> state) : state_(std::move(state)) {}
int Job::rank() const { return state_->comm->rank(); }
int Job::size() const { return state_->comm->size(); }
bool Job::in_one_process() const { return state_->turns && size() > 1; }
int Job::local_rank() const { return state_->local_rank; }
Comm& Job::comm() const { return *state_->comm; }
Collectives& Job::collectives() const { return *state_->collectives; }

void Job::in_turn(const std::function<void()>& work) const {
  if (!state_->turns) return work();
  Turns& turns = *state_->turns;
  std::optional<Fault> fault;
  const bool came = turns.table.when(
      Deadline::after(state_->options.data_deadline), [&](const Turns::Table& table) { return table.aborted || table.next == rank(); },
      [&](const Turns::Table& table) { fault = table.aborted ? table.aborted : table.failed; });
  if (!came) throw Error({.code = Code::timeout, .what = "rank " + std::to_string(rank()) + " waited too long for its turn"});
  if (!fault) {
    const auto done = capture(work);
    if (!done) fault = done.fault;
  }
  turns.table.with([&](Turns::Table& table) {
    table.next = (rank() + 1) % turns.ranks;
    // The ranks after this one throw what it threw; the round after them begins afresh.
    table.failed = table.next == 0 ? std::nullopt : fault;
  });
  if (fault) throw Error(std::move(*fault));
}

}  // namespace tessera
