#include "tessera/checkpoint/async_save.h"

#include <algorithm>
#include <atomic>
#include <climits>
#include <thread>

#include "tessera/base/guarded.h"
#include "tessera/base/trace.h"
#include "tessera/checkpoint/place.h"
#include "tessera/checkpoint/plan_cache.h"
#include "tessera/checkpoint/save_steps.h"
#include "tessera/comm/on_every_rank.h"
#include "tessera/transfer/staged_write.h"

namespace tessera {
namespace {

using Clock = std::chrono::steady_clock;

constexpr const char* given_up = "the save was given up";

// True where a save ended because it was to end. Every rank has the same fault.
bool was_given_up(const Outcome<SaveReport>& result) {
  return !result && result.fault.code == Code::aborted && result.fault.what == given_up;
}

int slabs_of(int64_t budget_bytes) {
  if (budget_bytes < 0) throw Error({.code = Code::invalid_argument, .what = "a staging budget below 0"});
  if (budget_bytes == 0) return INT_MAX;
  return static_cast<int>(std::clamp<int64_t>(budget_bytes / block_bytes, least_slabs, INT_MAX));
}

}  // namespace

struct PendingSave::State {
  struct Seen {
    bool staged = false;
    bool published = false;  // what is left to do is none of the step's
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
                 const Background& background, const std::function<void(Comm&, SaveReport&)>& after) {
    name_rank_row(line->rank(), ", save in the background");
    const auto begin = Clock::now();
    double stall_seconds = 0;
    const auto check = [&] {
      if (save.give_up) throw Error({.code = Code::aborted, .what = given_up, .file = target});
    };
    const auto staged = [&] {
      stall_seconds = std::chrono::duration<double>(Clock::now() - begin).count();
      save.seen.with([](PendingSave::State::Seen& seen) { seen.staged = true; });
      stand_back(background);
    };
    const SaveSteps steps{.describe = [&]() -> const Described& {
                            check();
                            if (!mine) throw Error(mine.fault);
                            return *mine.value;
                          },
                          .write =
                              [&](const RankWrites& writes, const Path& staging, const WriteChoice& choice, const Progress& progress) {
                                check();
                                const WriteWork work{.threads = choice.threads,
                                                     .mode = choice.mode,
                                                     .most_bytes_per_second = options.io.most_bytes_per_second,
                                                     .progress = progress,
                                                     .begin_thread = [&] { stand_back(background); }};
                                return write_shards_staged(writes, *mine.value, storage, staging, ring, {work, check, staged});
                              }};
    ring.restart();
    SaveReport report = save_in_steps(*line, storage, target, steps, options);
    report.stall_seconds = stall_seconds;
    report.peak_staging_bytes = ring.peak_bytes();
    report.in_waves = report.rank_bytes > ring.capacity_bytes();
    save.seen.with([](PendingSave::State::Seen& seen) { seen.published = true; });
    if (after) after(*line, report);
    return report;
  }

  Comm& comm;
  const std::unique_ptr<Comm> line;
  const std::shared_ptr<PlanCache> plans = std::make_shared<PlanCache>();
  SlabRing ring;
  std::thread thread;
  std::shared_ptr<PendingSave::State> current;
};

void BackgroundSaver::warm(int64_t bytes) { worker_->ring.warm(bytes); }

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
  if (options.when_busy == WhenBusy::replace) give_up();
  settle();
  // Objects are encoded here and now. A state that cannot be described is told in the background, where all ranks hear of it.
  auto held = std::make_shared<const StateDict>(std::move(state));
  auto mine = std::make_shared<Outcome<Described>>(capture([&] {
    check(options.background);
    return describe(*held, worker.comm.rank(), worker.comm.size());
  }));
  const auto save = std::make_shared<PendingSave::State>();
  SaveOptions in_background = options.save;
  in_background.io.threads = std::max(1, options.save.io.threads);  // the trainer has the rest of the machine
  if (!in_background.plans) in_background.plans = worker.plans;
  const auto work = [&worker, save, storage = std::move(storage), target, held, mine, options = std::move(in_background),
                     after = std::move(after)](const Background& background) mutable {
    auto result = capture([&] { return worker.run(*save, *storage, target, *mine, options, background, after); });
    mine.reset();
    held.reset();  // before anyone is told: what the state kept alive may go with it
    save->seen.with([&](PendingSave::State::Seen& seen) { seen.result = std::move(result); });
  };
  held.reset();
  const auto begun = capture([&] { worker.thread = std::thread(work, options.background); });
  worker.current = save;
  if (!begun) {
    // The other ranks have begun and wait: they hear of it from here.
    *mine = {std::nullopt, begun.fault};
    auto now = work;
    now({});  // this thread is the trainer's: it does not stand back
  }
  return PendingSave(save);
}

void BackgroundSaver::settle() {
  Worker& worker = *worker_;
  if (!worker.current) return;
  if (worker.thread.joinable()) worker.thread.join();
  const auto save = std::exchange(worker.current, nullptr);
  const bool told = save->seen.with([](PendingSave::State::Seen& seen) { return std::exchange(seen.told, true); });
  if (!told) PendingSave(save).wait();
}

// Asks the save under way to end, and waits until it did, or turns out to be published. That it was given up is then known.
bool BackgroundSaver::give_up() {
  Worker& worker = *worker_;
  if (!worker.current) return false;
  worker.current->give_up = true;
  bool ended = false;
  worker.current->seen.when(
      Deadline::after(Milliseconds::max()), [](const PendingSave::State::Seen& seen) { return seen.published || seen.result; },
      [&](PendingSave::State::Seen& seen) {
        ended = seen.result && was_given_up(*seen.result);
        seen.told = seen.told || ended;
      });
  return ended;
}

bool BackgroundSaver::finish(Deadline deadline) {
  Worker& worker = *worker_;
  if (!worker.current) return true;
  const auto over = [](const PendingSave::State::Seen& seen) { return seen.published || seen.result; };
  bool published = false;
  const bool in_time = worker.current->seen.when(deadline, over, [&](PendingSave::State::Seen& seen) { published = seen.published; });
  if (in_time && published) return true;
  const bool ended = in_time ? false : give_up();
  settle();
  return !ended;
}

PendingSave async_save(Comm& comm, const std::string& directory, StateDict state, const AsyncOptions& options, int64_t budget_bytes) {
  const Place place = place_of(directory);
  const auto saver = std::make_shared<BackgroundSaver>(comm, budget_bytes);
  PendingSave save = saver->start(std::make_shared<LocalStorage>(place.parent), place.name, std::move(state), options);
  save.saver_ = saver;
  return save;
}

}  // namespace tessera
