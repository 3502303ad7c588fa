#include "tessera/checkpoint/checkpoints.h"

#include <cerrno>

#include "tessera/checkpoint/place.h"
#include "tessera/checkpoint/plan_cache.h"
#include "tessera/comm/on_every_rank.h"

namespace tessera {
namespace {

void refuse_damaged(const std::shared_ptr<const Storage>& storage, const Path& directory, Depth depth, Comm& comm) {
  // The others wait: what is read of a large step is progress.
  int64_t done = 0;
  const auto progress = [&](int64_t bytes) { comm.note("verify " + directory, done += bytes, 0); };
  const VerifyReport report = verify(storage, directory, {.depth = depth, .progress = progress});
  if (report.damage.empty()) return;
  Fault fault = report.damage.front().fault;
  if (report.damage.size() > 1) fault.what += ", and damage in " + std::to_string(report.damage.size() - 1) + " more places";
  throw Error(std::move(fault));
}

// A step that could not be looked at may well be sound.
bool says_nothing_of_the_step(const Fault& fault) {
  switch (fault.code) {
    case Code::io: return fault.os_errno != 0 && fault.os_errno != ELOOP;  // a link, or no regular file, is damage for good
    case Code::no_memory:
    case Code::no_space:
    case Code::timeout:
    case Code::limit:
    case Code::unsupported:  // written by a newer tessera, perhaps
    case Code::internal: return true;
    default: return false;
  }
}

// The newest sound step, and why newer ones are not.
struct Latest {
  std::optional<Step> step;
  std::vector<std::string> skipped;
};
// Of these steps, from the newest on.
Latest latest_of(const std::shared_ptr<const Storage>& storage, const std::vector<Step>& steps, Depth depth, Comm& comm,
                 std::optional<Fault>& unreadable) {
  Latest latest;
  for (auto step = steps.rbegin(); step != steps.rend(); ++step) {
    const auto sound = capture([&] { refuse_damaged(storage, step_name(*step), depth, comm); });
    if (sound) {
      latest.step = *step;
      return latest;
    }
    latest.skipped.push_back(step_name(*step) + ": " + describe(sound.fault));
    if (!unreadable && says_nothing_of_the_step(sound.fault)) unreadable = sound.fault;
  }
  return latest;
}

Latest look_for_latest(const std::shared_ptr<const Storage>& storage, Depth depth, Comm& comm) {
  constexpr int most_looks = 16;
  for (int look = 1;; ++look) {
    std::optional<Fault> unreadable;
    const std::vector<Step> steps = steps_of(*storage);
    Latest latest = latest_of(storage, steps, depth, comm, unreadable);
    if (latest.step) return latest;
    // Another job's retention may have removed what was listed, and then a newer step stands: that is no reason to start afresh.
    if (look < most_looks && steps_of(*storage) != steps) continue;
    if (unreadable) throw Error(*unreadable);
    return latest;
  }
}

void put_strings(ByteWriter& out, const std::vector<std::string>& strings) {
  out.put<uint64_t>(strings.size());
  for (const std::string& one : strings) out.put_string(one);
}
std::vector<std::string> get_strings(ByteReader& in) {
  std::vector<std::string> strings;
  for (size_t left = in.get_count(8); left > 0; --left) strings.push_back(in.get_string());
  return strings;
}

void put_leftovers(ByteWriter& out, const std::vector<Leftover>& all) {
  out.put<uint64_t>(all.size());
  for (const Leftover& one : all) {
    out.put_string(one.directory);
    put_strings(out, one.moved_up);
    out.put(one.bytes);
    out.put<int64_t>(one.modified.time_since_epoch().count());
  }
}
std::vector<Leftover> get_leftovers(ByteReader& in) {
  std::vector<Leftover> all(in.get_count(8 * 4));
  for (Leftover& one : all) {
    one.directory = in.get_string();
    one.moved_up = get_strings(in);
    one.bytes = in.get<int64_t>();
    one.modified = std::chrono::system_clock::time_point(std::chrono::system_clock::duration(in.get<int64_t>()));
  }
  return all;
}

}  // namespace

Checkpoints::Checkpoints(Comm& comm, std::string root, const CheckpointsOptions& options)
    : Checkpoints(comm, std::make_shared<LocalStorage>(std::move(root)), options) {}

Checkpoints::Checkpoints(Comm& comm, std::shared_ptr<Storage> storage, const CheckpointsOptions& options)
    : comm_(comm),
      storage_(std::move(storage)),
      rules_{options.keep_last, options.keep_every, options.keep_best},
      staging_bytes_(options.staging_bytes),
      plans_(std::make_shared<PlanCache>()) {
  check(rules_);
}

std::optional<Step> Checkpoints::latest(Depth depth) {
  settle();
  comm_.note("look for the latest step in " + storage_->root());
  const Bytes answer = on_leader(comm_, Phase::open, [&] {
    const Latest latest = look_for_latest(storage_, depth, comm_);
    ByteWriter out;
    out.put<Step>(latest.step.value_or(-1));
    put_strings(out, latest.skipped);
    return out.take();
  });
  ByteReader in(answer);
  const Step found = in.get<Step>();
  skipped_ = get_strings(in);
  return found < 0 ? std::nullopt : std::optional(found);
}

SaveReport Checkpoints::save(Step step, const StateDict& state, const SaveOptions& options) {
  settle();
  SaveReport report = tessera::save(comm_, *storage_, step_name(step), state, with_plans(options));
  report.warnings = retain(comm_, step);
  return report;
}

PendingSave Checkpoints::async_save(Step step, StateDict state, const AsyncOptions& options) {
  AsyncOptions with = options;
  with.save = with_plans(options.save);
  return in_background().start(storage_, step_name(step), std::move(state), with,
                               [this, step](Comm& comm, SaveReport& report) { report.warnings = retain(comm, step); });
}

void Checkpoints::warm(int64_t bytes) { in_background().warm(bytes); }

BackgroundSaver& Checkpoints::in_background() {
  if (!background_) background_ = std::make_unique<BackgroundSaver>(comm_, staging_bytes_);
  return *background_;
}

// The plan of one step serves the next, in the background or not: never two at a time.
SaveOptions Checkpoints::with_plans(SaveOptions options) const {
  if (!options.plans) options.plans = plans_;
  return options;
}

bool Checkpoints::finish(Deadline deadline) { return !background_ || background_->finish(deadline); }

void Checkpoints::settle() {
  if (background_) background_->settle();
}

LoadReport Checkpoints::load(Step step, StateDict& state, const LoadOptions& options) {
  settle();
  return tessera::load(comm_, *storage_, step_name(step), state, options);
}

// The new step is durable already: a failure here is told, and is none of the save.
std::vector<std::string> Checkpoints::retain(Comm& comm, Step published) {
  if (!has_rules(rules_)) return {};
  const auto told = capture([&] {
    const Bytes answer = on_leader(comm, Phase::publish, [&] {
      ByteWriter out;
      put_strings(out,
                  tessera::retain(storage_, rules_, published, {.looks_at = [&](Step step) { comm.note("retention, " + step_name(step)); }})
                      .warnings);
      return out.take();
    });
    ByteReader in(answer);
    return get_strings(in);
  });
  if (told) return *told.value;
  return {"older steps were not looked at: " + describe(told.fault)};
}

void Checkpoints::pin(Step step) {
  settle();
  on_leader(comm_, Phase::publish, [&] { return tessera::pin(*storage_, step), Bytes{}; });
}

void Checkpoints::unpin(Step step) {
  settle();
  on_leader(comm_, Phase::publish, [&] { return tessera::unpin(*storage_, step), Bytes{}; });
}

std::set<Step> Checkpoints::pinned() {
  settle();
  const Bytes answer = on_leader(comm_, Phase::open, [&] {
    ByteWriter out;
    const std::set<Step> steps = pinned_steps(*storage_);
    out.put<uint64_t>(steps.size());
    for (const Step step : steps) out.put(step);
    return out.take();
  });
  ByteReader in(answer);
  std::set<Step> steps;
  for (size_t left = in.get_count(sizeof(Step)); left > 0; --left) steps.insert(in.get<Step>());
  return steps;
}

ReclaimReport Checkpoints::reclaim(const ReclaimOptions& options) {
  settle();
  comm_.note("reclaim what is left over in " + storage_->root());
  const Bytes answer = on_leader(comm_, Phase::start, [&] {
    ReclaimOptions noting = options;
    noting.looks_at = [&](const Path& directory) { comm_.note("reclaim " + directory); };
    // A root that nothing was saved to yet holds nothing.
    const ReclaimReport report = storage_->exists("") ? tessera::reclaim(*storage_, "", noting) : ReclaimReport{};
    ByteWriter out;
    put_leftovers(out, report.removed);
    put_leftovers(out, report.spared);
    put_strings(out, report.warnings);
    return out.take();
  });
  ByteReader in(answer);
  ReclaimReport report;
  report.removed = get_leftovers(in);
  report.spared = get_leftovers(in);
  report.warnings = get_strings(in);
  return report;
}

}  // namespace tessera
