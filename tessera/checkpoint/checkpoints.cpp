#include "tessera/checkpoint/checkpoints.h"

#include "tessera/checkpoint/place.h"
#include "tessera/comm/on_every_rank.h"

namespace tessera {
namespace {

void refuse_damaged(const std::shared_ptr<const Storage>& storage, const Path& directory, Depth depth) {
  const VerifyReport report = verify(storage, directory, {.depth = depth});
  if (!report.damage.empty()) throw Error(report.damage.front().fault);
}

// A step that cannot be looked at is not a damaged one: to resume from an older one, or afresh, is not for us to choose.
bool says_nothing_of_the_step(const Fault& fault) {
  return fault.code == Code::io || fault.code == Code::no_memory || fault.code == Code::no_space || fault.code == Code::timeout;
}

}  // namespace

Checkpoints::Checkpoints(Comm& comm, std::string root, const CheckpointsOptions& options)
    : Checkpoints(comm, std::make_shared<LocalStorage>(std::move(root)), options) {}

Checkpoints::Checkpoints(Comm& comm, std::shared_ptr<Storage> storage, const CheckpointsOptions& options)
    : comm_(comm), storage_(std::move(storage)), options_(options) {
  if (options_.keep_last < 0) throw Error({.code = Code::invalid_argument, .what = "keep_last is 0 or more"});
}

std::optional<Step> Checkpoints::latest(Depth depth) {
  settle();
  comm_.note("look for the latest step in " + storage_->root());
  const Bytes answer = on_leader(comm_, Phase::open, [&] {
    ByteWriter out;
    Step found = -1;
    std::vector<std::string> skipped;
    const std::vector<Step> steps = steps_of(*storage_);
    for (auto step = steps.rbegin(); step != steps.rend() && found < 0; ++step) {
      const auto sound = capture([&] { refuse_damaged(storage_, step_name(*step), depth); });
      if (sound) found = *step;
      else if (says_nothing_of_the_step(sound.fault)) throw Error(sound.fault);
      else skipped.push_back(step_name(*step) + ": " + describe(sound.fault));
    }
    out.put(found);
    out.put<uint64_t>(skipped.size());
    for (const std::string& line : skipped) out.put_string(line);
    return out.take();
  });
  ByteReader in(answer);
  const Step found = in.get<Step>();
  skipped_.clear();
  for (size_t left = in.get_count(8); left > 0; --left) skipped_.push_back(in.get_string());
  return found < 0 ? std::nullopt : std::optional(found);
}

SaveReport Checkpoints::save(Step step, const StateDict& state, const SaveOptions& options) {
  settle();
  SaveReport report = tessera::save(comm_, *storage_, step_name(step), state, options);
  retain(comm_);
  return report;
}

PendingSave Checkpoints::async_save(Step step, StateDict state, const AsyncOptions& options) {
  if (!background_) background_ = std::make_unique<BackgroundSaver>(comm_, options_.staging_bytes);
  return background_->start(storage_, step_name(step), std::move(state), options, [this](Comm& comm, SaveReport&) { retain(comm); });
}

bool Checkpoints::finish(Deadline deadline) { return !background_ || background_->finish(deadline); }

void Checkpoints::settle() {
  if (background_) background_->settle();
}

LoadReport Checkpoints::load(Step step, StateDict& state, const LoadOptions& options) {
  settle();
  return tessera::load(comm_, *storage_, step_name(step), state, options);
}

// The new step is durable already; a failure here is told, and loses nothing.
void Checkpoints::retain(Comm& comm) {
  if (options_.keep_last == 0) return;
  on_leader(comm, Phase::publish, [&] {
    const std::vector<Step> steps = steps_of(*storage_);
    const auto keep = static_cast<size_t>(options_.keep_last);
    for (size_t i = 0; i + keep < steps.size(); ++i) storage_->remove(step_name(steps[i]));
    return Bytes{};
  });
}

}  // namespace tessera
