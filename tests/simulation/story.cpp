#include "tests/simulation/story.h"

#include <algorithm>
#include <set>

#include "tessera/checkpoint/checkpoints.h"
#include "tessera/comm/thread_comm.h"
#include "tessera/storage/local_storage.h"
#include "tessera/storage/memory_storage.h"
#include "tests/simulation/judge.h"
#include "tests/support/sim_comm.h"
#include "tests/support/sim_disk.h"
#include "tests/support/sim_files.h"

namespace tessera {
namespace {

constexpr SimSpan longest = std::chrono::hours(1);
constexpr const char* root = "/runs";
constexpr Step steps_before = 2;  // that stand already when the story begins

// Runs `work`, which may throw an Error. Killed passes.
std::optional<Fault> fault_in(const std::function<void()>& work) {
  try {
    work();
    return std::nullopt;
  } catch (const Error& error) {
    return error.fault();
  }
}

// What all jobs share: a storage in memory, or a file system and a local storage on it that nothing befalls.
struct World {
  std::unique_ptr<SimDisk> files;
  std::shared_ptr<Storage> storage;
};
World new_world(bool system_calls) {
  if (!system_calls) return {nullptr, std::make_shared<MemoryStorage>()};
  auto files = std::make_unique<SimDisk>();
  auto storage = std::make_shared<LocalStorage>(root, *files);
  return {std::move(files), std::move(storage)};
}

// A process's way there, and how much failed on it.
struct Way {
  std::shared_ptr<Storage> storage;
  std::function<int64_t()> failures;
};
Way way_to(const World& world, SimProcess& process, std::vector<StorageTrouble> troubles, StorageWitness witness) {
  if (!world.files) {
    const auto storage = std::make_shared<SimStorage>(process, world.storage, std::move(troubles), std::move(witness));
    return {storage, [storage] { return storage->failures(); }};
  }
  const auto files = std::make_shared<SimFiles>(process, *world.files, std::move(troubles), std::move(witness));
  return {std::make_shared<LocalStorage>(root, *files), [files] { return files->failures(); }};
}

// One job as it is acted out.
class Acting {
 public:
  Acting(SimWorld& world, const World& disk, Witness& witness, const StoryPlan& story, size_t number)
      : world_(world),
        witness_(witness),
        story_(story),
        plan_(story.jobs[number]),
        number_(number),
        job_(world, std::string(1, static_cast<char>('a' + number)), plan_.ranks) {
    seen_.ranks.resize(static_cast<size_t>(plan_.ranks));
    seen_.number = number;
    for (int r = 0; r < plan_.ranks; ++r) {
      const auto troubles = plan_.troubles.find(r);
      ways_.push_back(way_to(disk, job_.process(r), troubles == plan_.troubles.end() ? std::vector<StorageTrouble>{} : troubles->second,
                             [this](std::string_view operation, const Path& path) {
                               witness_.sees(static_cast<int>(number_), plan_.keep_last, operation, path);
                             }));
    }
  }

  void start() {
    const SimTime begin = world_.now() + plan_.begin;
    job_.start(begin, [this](Comm& comm, SimProcess& process) { train(comm, process); });
    for (const Disturbance& d : plan_.disturbances) {
      const auto strike = [this, d] { disturb(d); };
      if (d.step > 0) job_.process(d.rank).at_step(d.step, strike);
      else world_.at(begin + d.at, strike);
    }
  }

  const JobSeen& seen() {
    for (int r = 0; r < plan_.ranks; ++r) {
      auto& rank = seen_.ranks[static_cast<size_t>(r)];
      rank.dead = job_.process(r).dead();
      rank.ended = job_.process(r).ended();
      rank.storage_faults = ways_[static_cast<size_t>(r)].failures();
    }
    seen_.deadline = job_.options().deadline;
    return seen_;
  }

 private:
  void train(Comm& comm, SimProcess& process) {
    RankSeen& me = seen_.ranks[static_cast<size_t>(comm.rank())];
    const auto verb = [&](std::string name, Step step, const std::function<void(VerbSeen&)>& work) {
      VerbSeen seen{.name = std::move(name), .step = step, .begin = world_.now()};
      seen.fault = fault_in([&] { work(seen); });
      seen.end = world_.now();
      if (comm.rank() == 0 || seen.fault) {
        world_.trace(process.name(), seen.name + " " + std::to_string(step) + ": " + (seen.fault ? describe(*seen.fault) : "well"));
      }
      me.verbs.push_back(std::move(seen));
      return !me.verbs.back().fault;
    };
    Checkpoints steps(comm, ways_[static_cast<size_t>(comm.rank())].storage, {.keep_last = plan_.keep_last});
    Step latest = -1;
    const bool looked = verb("latest", -1, [&](VerbSeen& seen) {
      latest = steps.latest().value_or(-1);
      seen.found = latest;
      seen.skipped = steps.skipped().size();
    });
    if (!looked && comm.failure()) return;
    if (!looked) latest = steps_before;
    if (plan_.loads && latest >= 0) {
      TinyState state(story_.layout, comm.rank(), comm.size(), 0);
      const bool loaded = verb("load", latest, [&](VerbSeen& seen) {
        const LoadReport report = steps.load(latest, state.state, {.io = {.threads = 1}});  // fibers are one thread
        seen.found = state.version();
        seen.whole = state.is(state.version(), !report.reset.empty());
      });
      if (!loaded && comm.failure()) return;
    }
    for (int n = 1; n <= plan_.saves; ++n) {
      const Step step = latest + n;
      const TinyState state(story_.layout, comm.rank(), comm.size(), version_of(step, number_));
      const bool saved = verb("save", step, [&](VerbSeen&) { steps.save(step, state.state, {.io = {.threads = 1}}); });
      if (!saved && comm.failure()) return;
    }
  }

  void disturb(const Disturbance& d) {
    SimProcess& process = job_.process(d.rank);
    if (process.dead() || process.ended()) return;
    using Kind = Disturbance::Kind;
    seen_.struck.push_back({d, world_.now()});
    const std::string seconds = std::to_string(std::chrono::duration_cast<Milliseconds>(d.span).count()) + " ms";
    switch (d.kind) {
      case Kind::kill: process.kill(); break;
      case Kind::pause:
        world_.trace(process.name(), "paused for " + seconds);
        process.pause(d.span);
        break;
      case Kind::hang:
        world_.trace(process.name(), "hangs for " + seconds);
        process.pause_body(d.span);
        break;
      case Kind::partition: job_.partition(d.rank, d.span); break;
      case Kind::cut: job_.cut(d.rank); break;
    }
  }

  SimWorld& world_;
  Witness& witness_;
  const StoryPlan& story_;
  const JobPlan& plan_;
  const size_t number_;
  std::vector<Way> ways_;
  JobSeen seen_;
  SimJob job_;  // last: its bodies use the rest
};

void count(const JobSeen& seen, StoryEnd& end) {
  using Kind = Disturbance::Kind;
  for (const auto& [d, at] : seen.struck) {
    end.kills += d.kind == Kind::kill;
    end.pauses += d.kind == Kind::pause || d.kind == Kind::hang;
    end.drops += d.kind == Kind::partition || d.kind == Kind::cut;
  }
  for (const RankSeen& rank : seen.ranks) end.storage_faults += static_cast<int>(rank.storage_faults);
  for (const VerbSeen& verb : seen.ranks.front().verbs) {
    if (verb.name == "save") ++(verb.fault ? end.failed : end.saved);
  }
}

}  // namespace

StoryEnd act_out(const StoryPlan& plan, bool print) {
  SimWorld world(plan.seed);
  if (print) world.print_trace();
  const World disk = new_world(plan.system_calls);
  Witness witness(*disk.storage);
  for (Step step = 1; step <= steps_before; ++step) {
    save(*thread_comms(1).front(), *disk.storage, step_name(step), TinyState(plan.layout, 0, 1, version_of(step, 0)).state);
    witness.expect(step);
  }
  std::vector<std::unique_ptr<Acting>> jobs;
  for (size_t n = 0; n < plan.jobs.size(); ++n) jobs.push_back(std::make_unique<Acting>(world, disk, witness, plan, n));

  StoryEnd end;
  for (size_t n = 0; n + 1 < jobs.size(); ++n) jobs[n]->start();
  if (!world.run_until_quiet(longest)) end.violations.push_back("the jobs hang");
  std::vector<JobSeen> seen;
  for (size_t n = 0; n + 1 < jobs.size(); ++n) seen.push_back(jobs[n]->seen());
  judge_jobs(plan, seen, end.violations);
  judge_disk(plan, disk.storage, seen, witness, end.violations);

  const std::optional<Step> newest = witness.newest();
  jobs.back()->start();
  if (!world.run_until_quiet(longest)) end.violations.push_back("the recovery hangs");
  judge_recovery(plan, jobs.back()->seen(), newest, end.violations);
  seen.push_back(jobs.back()->seen());
  judge_disk(plan, disk.storage, seen, witness, end.violations);

  for (const JobSeen& job : seen) count(job, end);
  end.hash = world.hash();
  return end;
}

}  // namespace tessera
