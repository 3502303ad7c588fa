#include "tests/crash/job.h"

#include <algorithm>
#include <set>

#include "tessera/checkpoint/checkpoints.h"
#include "tessera/comm/thread_comm.h"
#include "tessera/exchange/convert.h"
#include "tessera/storage/names.h"
#include "tests/crash/tiny_state.h"
#include "tests/support/run_as_ranks.h"

namespace tessera {
namespace {

constexpr Milliseconds patience = std::chrono::seconds(30);

// What may stand at one path.
struct Allowed {
  std::set<int64_t> versions;  // 0: nothing
  bool has_gap = false;
  std::vector<const Promise*> retired_by = {};
};

std::map<Path, Allowed> allowed_at(const Promises& promises, size_t moment) {
  std::map<Path, Allowed> all;
  for (const Promise& promise : promises) {
    if (promise.begun > moment) continue;
    Allowed& at = all.try_emplace(promise.path, Allowed{{0}}).first->second;
    if (promise.kept && *promise.kept <= moment) at = {{promise.version}};
    else at.versions.insert(promise.version), at.has_gap |= promise.has_gap;
    for (const Path& gone : promise.retires) all[gone].retired_by.push_back(&promise);
  }
  return all;
}

// What was moved aside is whole under its trash name.
bool in_trash(const std::shared_ptr<const Storage>& storage, const std::set<int64_t>& versions) {
  return std::ranges::any_of(storage->list(""), [&](const DirectoryEntry& entry) {
    const auto version = is_trash_name(entry.name) ? capture([&] { return version_at(storage, entry.name); }) : Outcome<int64_t>{};
    return version && versions.contains(*version.value) && *version.value != 0;
  });
}

}  // namespace

std::vector<std::string> broken_promises(FileSystem& files, const Promises& promises, size_t moment) {
  std::vector<std::string> broken;
  const auto storage = std::make_shared<LocalStorage>(jobs_root, files);
  const auto allowed = allowed_at(promises, moment);
  std::map<Path, int64_t> found;
  for (const auto& [path, at] : allowed) {
    const auto version = capture([&, &path = path] { return version_at(storage, path); });
    if (!version) broken.push_back(path + " is half there: " + describe(version.fault));
    else found[path] = *version.value;
  }
  const auto stands = [&](const Promise* promise) { return found.contains(promise->path) && found.at(promise->path) == promise->version; };
  for (const auto& [path, version] : found) {
    const Allowed& at = allowed.at(path);
    if (at.versions.contains(version)) continue;
    if (version == 0 && std::ranges::any_of(at.retired_by, stands)) continue;
    if (version == 0 && at.has_gap && in_trash(storage, at.versions)) continue;
    broken.push_back(path + (version == 0 ? " is lost" : " is version " + std::to_string(version)));
  }
  // What the root says of itself.
  Step newest = -1;
  for (const auto& [path, version] : found) {
    if (version != 0) newest = std::max(newest, step_named(path).value_or(-1));
  }
  for (const Step step : steps_of(*storage)) {
    if (!found.contains(step_name(step)) || found.at(step_name(step)) == 0) broken.push_back(step_name(step) + " was never saved");
  }
  const auto comms = thread_comms(1);
  Checkpoints steps(*comms.front(), storage);
  const auto latest = capture([&] { return steps.latest().value_or(-1); });
  if (!latest) broken.push_back("latest: " + describe(latest.fault));
  else if (*latest.value != newest) broken.push_back("latest is " + std::to_string(*latest.value) + ", not " + std::to_string(newest));
  for (const std::string& skipped : steps.skipped()) broken.push_back("passed over " + skipped);
  return broken;
}

Job::Job(FileSystem& files, const SimDisk& disk, int ranks, Promises so_far)
    : storage_(std::make_shared<LocalStorage>(jobs_root, files)), disk_(disk), ranks_(ranks), promises_(std::move(so_far)) {
  for (const Promise& promise : promises_) next_version_ = std::max(next_version_, promise.version + 1);
}

int Job::on_ranks(int ranks, const std::function<void(Comm&)>& body) {
  Comms comms = thread_comms(ranks, patience);
  const auto leaving = [&](Comm& comm) {
    const auto rank = static_cast<size_t>(comm.rank());
    const auto done = capture([&] { body(comm); });
    if (!done) comms[rank].reset();
    if (!done) throw Error(done.fault);
  };
  std::vector<Outcome<Done>> outcomes;
  if (ranks == 1) outcomes.push_back(capture([&] { leaving(*comms.front()); }));
  else outcomes = run_as_ranks(comms, leaving);
  faults_.clear();
  for (const auto& outcome : outcomes) {
    if (!outcome) faults_.push_back(outcome.fault);
  }
  return static_cast<int>(outcomes.size() - faults_.size());
}

bool Job::keep(Promise promise, int ranks, const std::function<void(Comm&)>& body) {
  promise.begun = disk_.changes();
  promises_.push_back(std::move(promise));
  if (on_ranks(ranks, body) == 0) return false;
  promises_.back().kept = disk_.changes();
  return true;
}

bool Job::save(const Path& path, Replace replace) {
  const int64_t version = next_version_++;
  return keep({.path = path, .version = version, .has_gap = replace == Replace::with_gap}, ranks_, [&, version](Comm& comm) {
    tessera::save(comm, *storage_, path, TinyState(comm.rank(), comm.size(), version).state, {.replace = replace});
  });
}

bool Job::save_step(int64_t step, int keep_last) {
  const int64_t version = next_version_++;
  Promise promise{.path = step_name(step), .version = version};
  if (keep_last > 0) {
    std::set<Path> others;
    for (const Promise& older : promises_) {
      if (older.path < promise.path) others.insert(older.path);
    }
    while (static_cast<int>(others.size()) >= keep_last) promise.retires.push_back(others.extract(others.begin()).value());
  }
  return keep(std::move(promise), ranks_, [&, version](Comm& comm) {
    Checkpoints(comm, storage_, {.keep_last = keep_last}).save(step, TinyState(comm.rank(), comm.size(), version).state);
  });
}

bool Job::save_next_step(int keep_last) {
  Step newest = 0;
  for (const Promise& promise : promises_) newest = std::max(newest, step_named(promise.path).value_or(0));
  return save_step(newest + 1, keep_last);
}

bool Job::convert_anew(const Path& from, const std::string& ending) {
  return convert(from, "again-" + std::to_string(promises_.size()) + ending);
}

bool Job::convert(const Path& from, const Path& to, int files) {
  const auto source = std::ranges::find(promises_, from, &Promise::path);
  const bool objects = format_named(to) != Format::safetensors;
  return keep({.path = to, .version = source->version}, 1, [&](Comm&) {
    tessera::convert(Checkpoint::open(storage_, from), *storage_, to, {.tensors_only = !objects, .ranks = files});
  });
}

bool Job::load(const Path& path, int64_t version) {
  return on_ranks(ranks_, [&](Comm& comm) {
           TinyState mine(comm.rank(), comm.size());
           tessera::load(comm, *storage_, path, mine.state);
           if (!(mine == TinyState(comm.rank(), comm.size(), version))) {
             throw Error({.code = Code::internal, .what = "a load that said all was well gave other bytes", .file = path});
           }
         }) == ranks_;
}

}  // namespace tessera
