// examples/gpt/gpt_train.cpp: trains a small GPT, sharded over ranks; saves steps and resumes from the latest, with any number of ranks.
//   gpt_train --ranks 2 --steps 40 --save-every 10 --dir runs/a           two threads of this process
//   torchrun --no-python --nproc-per-node 2 gpt_train --dir runs/a …       two processes
// With --async a step is saved while the next ones are computed. Told to go (SIGTERM), it saves the step it is at and ends.
// The global batch is fixed and divided over the ranks, so the curve does not depend on their number beyond rounding.
#include <CLI/CLI.hpp>
#include <chrono>
#include <cstdio>
#include <iostream>

#include "examples/gpt/gpt.h"
#include "examples/gpt/text.h"
#include "examples/gpt/train_step.h"
#include "tessera/checkpoint/checkpoints.h"
#include "tessera/checkpoint/stop_signal.h"
#include "tessera/checkpoint/trace_file.h"
#include "tessera/fsdp/fsdp.h"
#include "tessera/fsdp/optim.h"
#include "tessera/libtorch/state.h"

namespace {

using tessera::Error;
using tessera::Job;

struct Options {
  int ranks = 0;  // 0: as many as the launcher started, or one
  int64_t steps = 40;
  int64_t save_every = 0;
  std::string dir;
  bool resume = false;
  tessera::Kind kind = tessera::Kind::sharded;
  GptConfig gpt;
  int64_t batch = 8;
  double lr = 3e-4;
  uint64_t seed = 0;
  std::string text;
  int keep_last = 0;
  bool async = false;
  int64_t staging_bytes = 0;
  int64_t grace_s = 20;
  tessera::IoOptions io;
  tessera::Background background;
  std::string trace;
};

// One line, whole, at once: other ranks and other processes write too.
template <class... A>
void say(const char* format, A... values) {
  char line[512];
  std::snprintf(line, sizeof line, format, values...);
  std::cout << line << std::endl;
}

void say_saved(int64_t step, const tessera::SaveReport& report) {
  say("save step=%lld done %s", static_cast<long long>(step), tessera::describe(report).c_str());
}

// Saves steps, now or behind the trainer's back.
class Saver {
 public:
  Saver(const Job& job, const Options& options)
      : job_(job),
        async_(options.async),
        io_(options.io),
        background_(options.background),
        steps_(job.comm(), options.dir,
               tessera::CheckpointsOptions{.keep_last = options.keep_last, .staging_bytes = options.staging_bytes}) {}

  void save(int64_t step, double loss, tessera::State& state) {
    const tessera::SaveOptions options{.metrics = {{"loss", loss}}, .io = io_, .on_phase = [this, step](tessera::Phase phase) {
                                         if (job_.rank() == 0)
                                           say("save step=%lld phase=%s", static_cast<long long>(step), tessera::name(phase));
                                       }};
    if (async_) {
      finish();
      pending_ = {step, steps_.async_save(step, state, {.save = options, .background = background_})};
      return;
    }
    const tessera::SaveReport report = steps_.save(step, state, options);
    if (job_.rank() == 0) say_saved(step, report);
  }
  // The tensors are about to change.
  void before_change() {
    if (pending_) pending_->second.wait_staged();
  }
  // Waits for the save in the background.
  void finish() {
    if (!pending_) return;
    const tessera::SaveReport report = pending_->second.wait();
    if (job_.rank() == 0) say_saved(pending_->first, report);
    pending_.reset();
  }
  // The same, but not beyond the deadline. False if the save was given up.
  bool finish(tessera::Deadline deadline) { return steps_.finish(deadline); }
  tessera::Checkpoints& steps() { return steps_; }

 private:
  const Job& job_;
  const bool async_;
  const tessera::IoOptions io_;
  const tessera::Background background_;
  tessera::Checkpoints steps_;
  std::optional<std::pair<int64_t, tessera::PendingSave>> pending_;
};

// Saves the step in the time that is left.
void leave(const Job& job, Saver& saver, int64_t step, double loss, tessera::State& state, tessera::Deadline deadline) {
  if (job.rank() == 0)
    say("stop step=%lld: told to go, %.1f s left", static_cast<long long>(step), static_cast<double>(deadline.remaining().count()) / 1e3);
  saver.finish(deadline);
  saver.steps().async_save(step, state, {.save = {.metrics = {{"loss", loss}}}});
  const bool saved = saver.finish(deadline);
  if (job.rank() == 0) say("stop step=%lld: %s", static_cast<long long>(step), saved ? "saved" : "no time to save, the step before stands");
}

int64_t resume(const Job& job, tessera::Checkpoints& steps, tessera::State& state, const tessera::IoOptions& io) {
  const auto latest = steps.latest();
  if (job.rank() == 0) {
    for (const std::string& why : steps.skipped()) say("resume skipped %s", why.c_str());
  }
  if (!latest) return 0;
  const tessera::LoadReport report = steps.load(*latest, state, {.io = io});
  if (job.rank() == 0) {
    say("resume step=%lld ranks=%d bytes=%lld seconds=%.3f", static_cast<long long>(*latest), job.size(),
        static_cast<long long>(report.read_bytes), report.seconds);
  }
  return *latest;
}

void train(const Job& job, const Options& options, const tessera::StopSignal& stop) {
  Text text(options.text, options.seed, options.gpt.seq);
  auto model = tessera::fsdp(job, [&] { return Gpt(options.gpt); }, {.seed = options.seed});
  const auto does_not_decay = [](std::string_view name) { return !decays(name); };
  tessera::AdamW optim(model, {.lr = options.lr, .weight_decay = 0.1, .groups = {{.params = does_not_decay, .weight_decay = 0.0}}});
  auto state = tessera::state({{"model", model}, {"optim", optim}, {"data", text}}, {.kind = options.kind});
  std::unique_ptr<Saver> saver;
  if (!options.dir.empty()) saver = std::make_unique<Saver>(job, options);
  const int64_t done = options.resume ? resume(job, saver->steps(), state, options.io) : 0;
  for (int64_t step = done + 1; step <= options.steps; ++step) {
    const auto begin = std::chrono::steady_clock::now();
    const double loss = forward_backward(job, model, text, options.batch, options.gpt.seq);
    if (saver) saver->before_change();
    optim.step();
    optim.zero_grad();
    text.take(options.batch);
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
    if (job.rank() == 0) {
      say("step=%lld loss=%.9f ms=%.0f tokens_per_s=%.0f", static_cast<long long>(step), loss, took.count() * 1e3,
          static_cast<double>(options.batch * options.gpt.seq) / took.count());
    }
    if (!saver) continue;
    if (const auto deadline = stop.on_any_rank(job.comm())) return leave(job, *saver, step, loss, state, *deadline);
    if (options.save_every > 0 && step % options.save_every == 0) saver->save(step, loss, state);
  }
  if (saver) saver->finish();
}

void run(const Options& options) {
  const tessera::StopSignal stop(std::chrono::seconds(options.grace_s));
  if (!tessera::launched()) {
    tessera::TraceFile trace(options.trace);
    tessera::run_ranks(std::max(1, options.ranks), [&](Job& job) { train(job, options, stop); });
    return trace.finish();
  }
  const Job job = tessera::join();
  if (options.ranks && options.ranks != job.size()) {
    throw Error({.code = tessera::Code::invalid_argument,
                 .what = "--ranks " + std::to_string(options.ranks) + " in a job of " + std::to_string(job.size())});
  }
  // One file a process.
  tessera::TraceFile trace(options.trace.empty() ? "" : options.trace + ".rank" + std::to_string(job.rank()));
  train(job, options, stop);
  trace.finish();
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  CLI::App app("Trains a small GPT on a text, sharded over ranks. Prints one line a step.");
  const std::map<std::string, tessera::Kind> kinds = {
      {"full", tessera::Kind::full}, {"sharded", tessera::Kind::sharded}, {"local", tessera::Kind::local}};
  app.add_option("--ranks", options.ranks, "ranks: threads of this process, or what the launcher must have started")
      ->check(CLI::Range(1, 1024));
  app.add_option("--steps", options.steps, "train until this step")->capture_default_str();
  auto* dir = app.add_option("--dir", options.dir, "root of the steps that are saved");
  app.add_option("--save-every", options.save_every, "save after every so many steps; 0 saves none")
      ->check(CLI::NonNegativeNumber)
      ->needs(dir);
  app.add_flag("--resume", options.resume, "go on from the latest step in --dir")->needs(dir);
  app.add_option("--kind", options.kind, "how parameters are saved: full, sharded or local")
      ->transform(CLI::CheckedTransformer(kinds))
      ->default_str("sharded");
  app.add_option("--keep-last", options.keep_last, "keep so many steps; 0 keeps all")->check(CLI::NonNegativeNumber)->capture_default_str();
  app.add_flag("--async", options.async, "go on training while a step is saved")->needs(dir);
  app.add_option("--staging-bytes", options.staging_bytes, "--async: memory for copies of the state on each rank; 0 takes what it takes")
      ->check(CLI::NonNegativeNumber)
      ->transform(CLI::AsSizeValue(false))
      ->capture_default_str();
  app.add_option("--grace", options.grace_s, "seconds from SIGTERM until the save must be over, or is given up")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  app.add_option("--io-threads", options.io.threads, "threads that write or read a rank's file; 0 chooses")->check(CLI::Range(0, 64));
  app.add_option("--io-rate", options.io.most_bytes_per_second, "most bytes a second that a rank writes; 0: no limit")
      ->check(CLI::NonNegativeNumber)
      ->transform(CLI::AsSizeValue(false));
  app.add_option("--nice", options.background.niceness, "--async: how far its threads stand back, 0 to 19")->check(CLI::Range(0, 19));
  app.add_option("--io-cpus", options.background.cpus, "--async: the only cores that its threads run on")->delimiter(',');
  app.add_option("--trace", options.trace,
                 "write what every thread did to this file (with .rank<r> for each process), for Perfetto or chrome://tracing");
  app.add_option("--layers", options.gpt.layers, "blocks of the model")->check(CLI::PositiveNumber)->capture_default_str();
  app.add_option("--width", options.gpt.width, "width of the model, a multiple of 32")->check(CLI::PositiveNumber)->capture_default_str();
  app.add_option("--seq", options.gpt.seq, "tokens of a sample")->check(CLI::PositiveNumber)->capture_default_str();
  app.add_option("--batch", options.batch, "samples of a step, over all ranks")->check(CLI::PositiveNumber)->capture_default_str();
  app.add_option("--lr", options.lr, "learning rate")->capture_default_str();
  app.add_option("--seed", options.seed, "of the weights and of the order of samples")->capture_default_str();
  app.add_option("--text", options.text, "train on this file; the licence texts of the system by default");
  try {
    app.parse(argc, argv);
    if (options.gpt.width % 32) throw CLI::ValidationError("--width", "must be a multiple of 32");
  } catch (const CLI::ParseError& error) {
    return app.exit(error) ? 2 : 0;
  }
  try {
    run(options);
    return 0;
  } catch (...) {
    const tessera::Fault fault = tessera::fault_of(std::current_exception());
    std::cerr << "tessera: error: " + tessera::describe(fault) + "\n";
    if (!fault.hint.empty()) std::cerr << "tessera: hint: " + fault.hint + "\n";
    return tessera::exit_code(fault.code);
  }
}
