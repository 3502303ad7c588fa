// tessera/checkpoint/async_save.h: all ranks save one state together while they go on with something else.
// Two moments The save is *staged* on a rank when its tensors are copied: from then on that rank may change them. It is *durable* when it
//             is published: whole, synced and proved on every rank, as save() promises (I1-I4).
// Collective  Every rank calls the same functions in the same order; wait() and finish() count among them. The rounds of a save go over a
//             line of their own (comm.h), so the trainer may use the Comm meanwhile.
// Memory      A ring of slabs under a budget, kept warm from save to save. A state that does not fit goes in waves: staged then comes
//             later, as the copy waits for the disk, and the report says so.
// Errors      A failure in the background is the same Error on every rank. wait() throws it; where nobody waited, the next call does.
//             Then nothing has appeared (but see save.h), and no older step is touched. A lone save whose handle is dropped unwaited tells
//             nobody.
// Leaving     Destroying a saver finishes what it has begun. A process that is killed leaves a staging directory, never half a step.
// Threads     One thread a rank. While a save is under way, one more that copies and agrees, and SaveOptions::io.threads that hash and
// write.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "tessera/base/background.h"
#include "tessera/checkpoint/save.h"

namespace tessera {

// What to do when the save before is still under way.
enum class WhenBusy : uint8_t {
  wait,     // until it is over
  refuse,   // Error(exists) on every rank, if it is under way on any: one round on the Comm tells
  replace,  // give it up unless it is being published already, then go on
};

struct AsyncOptions {
  // on_phase is called from the background. io.threads hash and write there: 0 is one, as the trainer has the rest of the machine.
  SaveOptions save = {};
  WhenBusy when_busy = WhenBusy::wait;
  // How its threads stand back: those that hash and write always, the one that copies once the state is staged.
  Background background = {};
};

class BackgroundSaver;

// A save under way. Copies are handles of the same save.
class PendingSave {
 public:
  // Waits until this rank's tensors may change: they are copied, or the save has failed, which wait() and the next call tell.
  void wait_staged() const;
  bool is_staged() const;
  // Waits until the step is durable, and returns how it went. Throws what the save failed with.
  SaveReport wait() const;
  // Of this rank: others may not know yet. What hangs on it must not be collective.
  bool is_done() const;

  struct State;

 private:
  friend class BackgroundSaver;
  friend PendingSave async_save(Comm&, const std::string&, StateDict, const AsyncOptions&, int64_t);
  explicit PendingSave(std::shared_ptr<State> state) : state_(std::move(state)) {}
  std::shared_ptr<State> state_;
  std::shared_ptr<BackgroundSaver> saver_;  // of a lone save
};

// Saves one state after another in the background.
class BackgroundSaver {
 public:
  // At most `budget_bytes` of copies on this rank, but no less than four slabs of 1 MiB; 0 takes as much as the state does.
  // `comm` outlives this.
  explicit BackgroundSaver(Comm& comm, int64_t budget_bytes = 0);
  ~BackgroundSaver();

  // Makes and touches memory for copies of so many bytes, within the budget, so that the first save's copy is as fast as the next one's.
  void warm(int64_t bytes);

  // Begins a save and returns. The views of `state` are read until it is staged; its objects are taken at once. `after` runs in the
  // background on every rank once the step is published; the Comm it is given is the saver's line, and what it throws fails the save
  // without taking the step back.
  PendingSave start(std::shared_ptr<Storage> storage, const Path& target, StateDict state, const AsyncOptions& options,
                    std::function<void(Comm&, SaveReport&)> after = {});

  // Waits for the save under way, if there is one. Throws its failure if nobody has waited for it.
  void settle();
  // Waits until the save under way is published, and at the deadline gives it up: what stood before still stands. False if it was given
  // up. After the deadline it waits only for what cannot be cut short: a block, a sync, the publishing that has begun. Throws the save's
  // failure if nobody has waited for it.
  bool finish(Deadline deadline);

 private:
  bool give_up();
  struct Worker;
  std::unique_ptr<Worker> worker_;
};

// One save to a directory of the local file system, by a saver of its own, which ends with the last handle and so waits for the save.
PendingSave async_save(Comm& comm, const std::string& directory, StateDict state, const AsyncOptions& options = {},
                       int64_t budget_bytes = 0);
template <Stateful T>
PendingSave async_save(Comm& comm, const std::string& directory, const T& object, const AsyncOptions& options = {},
                       int64_t budget_bytes = 0) {
  return async_save(comm, directory, const_cast<T&>(object).state_dict(), options, budget_bytes);
}

}  // namespace tessera
