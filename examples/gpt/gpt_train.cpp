// examples/gpt/gpt_train.cpp: trains a small GPT, sharded over ranks; saves steps and resumes from the latest, with any number of ranks.
//   gpt_train --ranks 2 --steps 40 --save-every 10 --dir runs/a           two threads of this process
//   torchrun --no-python --nproc-per-node 2 gpt_train --dir runs/a …       two processes
// With --async a step is saved while the next ones are computed. Told to go (SIGTERM), it saves the step it is at and ends.
// The global batch is fixed and divided over the ranks and their micro-batches, so the curve depends on neither beyond rounding.
#include <ATen/DeviceAccelerator.h>

#include <chrono>

#include "examples/gpt/curve.h"
#include "examples/gpt/optimizer.h"
#include "examples/gpt/options.h"
#include "examples/gpt/saver.h"
#include "examples/gpt/say.h"
#include "examples/gpt/text.h"
#include "examples/gpt/train_step.h"
#include "tessera/checkpoint/stop_signal.h"
#include "tessera/checkpoint/trace_file.h"
#include "tessera/comm/on_every_rank.h"
#include "tessera/fsdp/clip_grad_norm.h"
#include "tessera/fsdp/fsdp.h"
#include "tessera/fsdp/unit_list.h"
#include "tessera/libtorch/state.h"

namespace {

using tessera::Error;
using tessera::Job;

struct Step {
  int64_t number = 0;
  double loss = 0;
  double lr = 0;
  std::optional<double> gradient_norm = {};  // before it was clipped
  double seconds = 0;
};

void say_step(const Step& step, int64_t tokens) {
  char text[256];
  std::snprintf(text, sizeof text, "loss=%.9f ms=%.0f tokens_per_s=%.0f lr=%.6g", step.loss, step.seconds * 1e3,
                static_cast<double>(tokens) / step.seconds, step.lr);
  say("step=", step.number, " ", text, step.gradient_norm ? " gradient_norm=" + std::to_string(*step.gradient_norm) : "");
}

at::Device gpu_of(const Job& job) {
  const auto index = static_cast<at::DeviceIndex>(job.local_rank() % at::accelerator::deviceCount());
  at::accelerator::setDeviceIndex(index);
  return at::Device(*at::getAccelerator(), index);
}

void train(const Job& job, const Options& options, const tessera::StopSignal& stop) {
  Text text(options.text, options.seed, options.gpt.seq);
  const at::Device device = options.on_gpus ? gpu_of(job) : at::Device(at::kCPU);
  tessera::FsdpOptions sharding = options.fsdp;
  sharding.device = device;
  auto model = tessera::fsdp(job, [&] { return Gpt(options.gpt); }, sharding);
  const auto optim = make_optimizer(model, options);
  tessera::LrSchedule schedule(*optim, lr_curve(options));
  auto state = tessera::state({{"model", model}, {"optim", *optim}, {"schedule", schedule}, {"data", text}}, {.kind = options.kind});

  const bool speaks = job.rank() == 0;
  if (speaks && options.units) say(tessera::describe_units(model));
  std::optional<Saver> saver;
  if (!options.dir.empty()) saver.emplace(job, options);
  Step step{.number = options.resume ? saver->resume(state) : 0};
  std::optional<Curve> curve;
  tessera::on_every_rank(job.comm(), tessera::Phase::start, [&] {
    if (speaks && !options.curve.empty()) curve.emplace(options.curve, /*go_on=*/step.number > 0);
  });

  bool told_to_go = false;
  while (step.number < options.steps && !told_to_go) {
    ++step.number;
    const auto begin = std::chrono::steady_clock::now();
    step.loss = forward_backward(job, model, text, options.batch, options.gpt.seq, options.accumulate, device);
    step.lr = schedule.last_lr().front();
    if (options.clip > 0) step.gradient_norm = tessera::clip_grad_norm_(model, options.clip);
    if (saver) saver->before_change();
    optim->step();
    schedule.step();
    optim->zero_grad();
    text.take(options.batch);
    step.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    if (speaks) say_step(step, options.batch * options.gpt.seq);
    if (curve) curve->add({.step = step.number, .loss = step.loss, .lr = step.lr, .ranks = job.size(), .seconds = step.seconds});
    if (!saver) continue;
    if (const auto deadline = stop.on_any_rank(job.comm())) {
      saver->leave(step.number, step.loss, state, *deadline);
      told_to_go = true;
    } else if (options.save_every > 0 && step.number % options.save_every == 0) {
      saver->save(step.number, step.loss, state);
    }
  }
  if (saver) saver->finish();
  if (curve) curve->draw();
  if (speaks && options.memory) say(tessera::memory_summary(model));
}

void run(const Options& options) {
  const tessera::StopSignal stop(std::chrono::seconds(options.grace_s));
  if (!tessera::launched()) {
    tessera::TraceFile trace(options.trace);
    tessera::run_ranks(std::max(1, options.ranks), [&](Job& job) { train(job, options, stop); });
    return trace.finish();
  }
  const Job job = tessera::join({.transport = options.transport});
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
  if (const auto code = parse(argc, argv, options)) return *code;
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
