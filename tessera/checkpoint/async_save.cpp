#include "tessera/checkpoint/async_save.h"

#include <algorithm>
#include <atomic>
#include <climits>
#include <thread>

#include "tessera/base/guarded.h"
#include "tessera/checkpoint/place.h"
#include "tessera/checkpoint/save_steps.h"
#include "tessera/comm/on_every_rank.h"
#include "tessera/transfer/staged_write.h"

namespace tessera {
namespace {

using Clock = std::chrono::steady_clock;

int slabs_of(int64_t budget_bytes) {
  if (budget_bytes < 0) throw Error({.code = Code::invalid_argument, .what = "a staging budget below 0"});
  if (budget_bytes == 0) return INT_MAX;
  return static_cast<int>(std::clamp<int64_t>(budget_bytes / block_bytes, least_slabs, INT_MAX));
}

}  // namespace

struct PendingSave::State {
  struct Seen {
    bool staged = false;
    std::optional<Outcome<SaveReport>> result;
    bool told = false;  // somebody has waited for the result
  };
  Guarded<Seen> seen;
  std::atomic<bool> give_up = false;
};

void PendingSave::wait_staged() const {
  state_->seen.when(
      Deadline::after(Milliseconds::max()), [](const State::Seen& seen) { return seen.staged || seen.result; }, [](State::Seen&) {});
}

bool PendingSave::is_staged() const {
  return state_->seen.with([](State::Seen& seen) { return seen.staged; });
}

SaveReport PendingSave::wait() const {
  Outcome<SaveReport> result;
  state_->seen.when(
      Deadline::after(Milliseconds::max()), [](const State::Seen& seen) { return seen.result.has_value(); },
      [&](State::Seen& seen) {
        seen.told = true;
        result = *seen.result;
      });
  return std::move(result).or_throw();
}

bool PendingSave::is_done() const {
  return state_->seen.with([](State::Seen& seen) { return seen.result.has_value(); });
}

struct BackgroundSaver::Worker {
  Worker(Comm& job, int64_t budget_bytes) : comm(job), line(job.line()), ring(slabs_of(budget_bytes), block_bytes) {}
  ~Worker() {
    if (thread.joinable()) thread.join();
  }

  // The whole of a save, in the background.
  SaveReport run(PendingSave::State& save, Storage& storage, const Path& target, const Outcome<Described>& mine, const SaveOptions& options,
                 const std::function<void(Comm&, SaveReport&)>& after) {
    const auto begin = Clock::now();
    double stall_seconds = 0;
    const auto check = [&] {
      if (save.give_up) throw Error({.code = Code::aborted, .what = "the save was given up", .file = target});
    };
    const StagedWrite work{.check = check, .staged = [&] {
                             stall_seconds = std::chrono::duration<double>(Clock::now() - begin).count();
                             save.seen.with([](PendingSave::State::Seen& seen) { seen.staged = true; });
                           }};
    const SaveSteps steps{.describe = [&]() -> const Described& {
                            check();
                            if (!mine) throw Error(mine.fault);
                            return *mine.value;
                          },
                          .write =
                              [&](const RankWrites& writes, const Path& staging, const Progress& progress) {
                                check();
                                StagedWrite with_progress = work;
                                with_progress.progress = progress;
                                return write_shards_staged(writes, *mine.value, storage, staging, ring, with_progress);
                              }};
    ring.restart();
    SaveReport report = save_in_steps(*line, storage, target, steps, options);
    report.stall_seconds = stall_seconds;
    report.peak_staging_bytes = ring.peak_bytes();
    report.in_waves = ring.waits() > 0;
    if (after) after(*line, report);
    return report;
  }

  Comm& comm;
  const std::unique_ptr<Comm> line;
  SlabRing ring;
  std::thread thread;
  std::shared_ptr<PendingSave::State> current;
};

BackgroundSaver::BackgroundSaver(Comm& comm, int64_t budget_bytes) : worker_(std::make_unique<Worker>(comm, budget_bytes)) {}
BackgroundSaver::~BackgroundSaver() = default;

PendingSave BackgroundSaver::start(std::shared_ptr<Storage> storage, const Path& target, StateDict state, const AsyncOptions& options,
                                   std::function<void(Comm&, SaveReport&)> after) {
  Worker& worker = *worker_;
  if (worker.current && options.when_busy == WhenBusy::refuse) {
    const bool busy = !PendingSave(worker.current).is_done();
    on_every_rank(worker.comm, Phase::start, [&] {
      if (busy) throw Error({.code = Code::exists, .what = "a save is under way", .file = target, .hint = "wait for it, or replace it"});
    });
  }
  if (worker.current && options.when_busy == WhenBusy::replace) {
    worker.current->give_up = true;
    capture([&] { PendingSave(worker.current).wait(); });  // given up, or just published: it makes room either way
  }
  settle();
  // Objects are encoded here and now. A state that cannot be described is told in the background, where all ranks hear of it.
  auto held = std::make_shared<const StateDict>(std::move(state));
  auto mine = std::make_shared<const Outcome<Described>>(capture([&] { return describe(*held, worker.comm.rank()); }));
  const auto save = std::make_shared<PendingSave::State>();
  worker.current = save;
  worker.thread = std::thread(
      [&worker, save, storage = std::move(storage), target, held, mine, options = options.save, after = std::move(after)]() mutable {
        auto result = capture([&] { return worker.run(*save, *storage, target, *mine, options, after); });
        mine.reset();
        held.reset();  // before anyone is told: what the state kept alive may go with it
        save->seen.with([&](PendingSave::State::Seen& seen) { seen.result = std::move(result); });
      });
  return PendingSave(save);
}

void BackgroundSaver::settle() {
  Worker& worker = *worker_;
  if (!worker.current) return;
  worker.thread.join();
  const auto save = std::exchange(worker.current, nullptr);
  const bool told = save->seen.with([](PendingSave::State::Seen& seen) { return std::exchange(seen.told, true); });
  if (!told) PendingSave(save).wait();
}

bool BackgroundSaver::finish(Deadline deadline) {
  Worker& worker = *worker_;
  if (!worker.current) return true;
  const auto done = [](const PendingSave::State::Seen& seen) { return seen.result.has_value(); };
  if (!worker.current->seen.when(deadline, done, [](PendingSave::State::Seen&) {})) worker.current->give_up = true;
  const auto save = worker.current;
  const auto result = capture([&] { return PendingSave(save).wait(); });
  settle();
  if (!result && result.fault.code != Code::aborted) throw Error(result.fault);
  return bool(result);
}

PendingSave async_save(Comm& comm, const std::string& directory, StateDict state, const AsyncOptions& options, int64_t budget_bytes) {
  const Place place = place_of(directory);
  const auto saver = std::make_shared<BackgroundSaver>(comm, budget_bytes);
  PendingSave save = saver->start(std::make_shared<LocalStorage>(place.parent), place.name, std::move(state), options);
  save.saver_ = saver;
  return save;
}

}  // namespace tessera
