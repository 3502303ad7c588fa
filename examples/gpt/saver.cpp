#include "examples/gpt/saver.h"

#include "examples/gpt/say.h"

Saver::Saver(const tessera::Job& job, const Options& options)
    : job_(job),
      options_(options),
      steps_(job.comm(), options.dir, tessera::CheckpointsOptions{.keep_last = options.keep_last, .staging_bytes = options.staging_bytes}) {
}

int64_t Saver::resume(tessera::State& state) {
  const auto latest = steps_.latest();
  if (job_.rank() == 0) {
    for (const std::string& why : steps_.skipped()) say("resume skipped ", why);
  }
  if (!latest) return 0;
  const tessera::LoadReport report = steps_.load(*latest, state, {.io = options_.io});
  if (job_.rank() == 0) say("resume step=", *latest, " ranks=", job_.size(), " bytes=", report.read_bytes, " seconds=", report.seconds);
  return *latest;
}

void Saver::save(int64_t step, double loss, tessera::State& state) {
  const auto on_phase = [this, step](tessera::Phase phase) {
    if (job_.rank() == 0) say("save step=", step, " phase=", tessera::name(phase));
  };
  const tessera::SaveOptions options{.metrics = {{"loss", loss}}, .io = options_.io, .on_phase = on_phase};
  if (options_.async) {
    finish();
    pending_ = {step, steps_.async_save(step, state, {.save = options, .background = options_.background})};
    return;
  }
  const tessera::SaveReport report = steps_.save(step, state, options);
  if (job_.rank() == 0) say("save step=", step, " done ", tessera::describe(report));
}

void Saver::before_change() {
  if (pending_) pending_->second.wait_staged();
}

void Saver::finish() {
  if (!pending_) return;
  const tessera::SaveReport report = pending_->second.wait();
  if (job_.rank() == 0) say("save step=", pending_->first, " done ", tessera::describe(report));
  pending_.reset();
}

void Saver::leave(int64_t step, double loss, tessera::State& state, tessera::Deadline deadline) {
  const bool first = job_.rank() == 0;
  if (first) say("stop step=", step, ": told to go, ", static_cast<double>(deadline.remaining().count()) / 1e3, " s left");
  steps_.finish(deadline);
  steps_.async_save(step, state, {.save = {.metrics = {{"loss", loss}}}});
  const bool saved = steps_.finish(deadline);
  pending_.reset();  // over, or given up
  if (first) say("stop step=", step, ": ", saved ? "saved" : "no time to save, the step before stands");
}
