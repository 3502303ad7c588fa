// bench/hook_bench.cpp: what sharding costs a rank's thread besides moving bytes: CPU of forward + backward of many small units above that
// of the same modules unwrapped, a unit. Prints one JSON object.
//   hook_bench --ranks 2               threads whose collectives hand nothing over (DelayedCollectives), so that only a rank's own work is
//                                      seen: allocating, launching, waiting, autograd, freeing
//   hook_bench --ranks 2 --carries     the same with the bytes
//   tessera-launch --ranks 2 -- hook_bench --carries   processes
// Units       Milliseconds of CPU a unit, medians of the runs: of the rank's thread, and of the process (--ranks 1 or processes).
#include <ATen/Context.h>
#include <ATen/Functions.h>
#include <ATen/Parallel.h>
#include <time.h>
#include <torch/nn/modules/linear.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <iostream>
#include <nlohmann/json.hpp>

#include "bench/measure.h"
#include "tessera/collectives/delayed_collectives.h"
#include "tessera/fsdp/fsdp.h"
#include "tessera/fsdp/unit_counters.h"

namespace {

using namespace tessera;
using nlohmann::json;

struct Options {
  int ranks = 2;
  int units = 64, width = 16, rows = 8, steps = 40, runs = 5;
  bool carries = false;
};

struct ChainImpl : torch::nn::Module {
  ChainImpl(int units, int64_t width) {
    for (int i = 0; i < units; ++i) each.push_back(register_module("each" + std::to_string(i), wrap(torch::nn::Linear(width, width))));
  }
  at::Tensor forward(at::Tensor x) {
    for (auto& one : each) x = one(x);
    return x;
  }
  std::vector<Wrapped<torch::nn::LinearImpl>> each;
};
TORCH_MODULE(Chain);

double thread_seconds() {
  timespec now{};
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) * 1e-9;
}

struct Spent {
  double thread_s = 0, process_s = 0;
};

template <class M>
Spent run_steps(M& model, const std::vector<at::Tensor>& parameters, const Options& options) {
  const at::Tensor x = at::ones({options.rows, options.width});
  const Spent before{thread_seconds(), bench::cpu_seconds()};
  for (int step = 0; step < options.steps; ++step) {
    model(x).sum().backward();
    for (const at::Tensor& parameter : parameters) parameter.mutable_grad().reset();
  }
  return {thread_seconds() - before.thread_s, bench::cpu_seconds() - before.process_s};
}

double median(std::vector<double> all) {
  std::ranges::sort(all);
  return all[all.size() / 2];
}

json measure(const Job& job, const Options& options) {
  at::globalContext().setFlushDenormal(true);  // where nothing is handed over, parameters are whatever lay in memory
  auto sharded = fsdp(job, [&] { return Chain(options.units, options.width); }, {.seed = 0});
  Chain local(options.units, options.width);
  run_steps(sharded, sharded->parameters(), options);
  run_steps(local, local->parameters(), options);
  std::vector<double> thread_ms, process_ms, local_ms;
  reset_unit_counters(sharded);
  const double units = static_cast<double>(options.steps) * options.units / 1e3;
  for (int run = 0; run < options.runs; ++run) {
    const Spent with = run_steps(sharded, sharded->parameters(), options), without = run_steps(local, local->parameters(), options);
    thread_ms.push_back((with.thread_s - without.thread_s) / units);
    process_ms.push_back((with.process_s - without.process_s) / units);
    local_ms.push_back(without.thread_s / units);
  }
  const UnitCounters counters = unit_counters(sharded);
  json figures = {{"ranks", job.size()},
                  {"units", options.units},
                  {"carries", options.carries},
                  {"local_ms", median(local_ms)},
                  {"hook_ms", median(thread_ms)},
                  {"hook_ms_of_runs", thread_ms},
                  {"gathers_a_unit", static_cast<double>(counters.gathers) / (units * 1e3 * options.runs)},
                  {"reductions_a_unit", static_cast<double>(counters.reductions) / (units * 1e3 * options.runs)}};
  if (launched() || job.size() == 1) figures["process_hook_ms"] = median(process_ms);
  return figures;
}

void run(const Options& options) {
  json figures;
  const auto body = [&](Job& job) {
    json mine = measure(job, options);
    if (job.rank() == 0) figures = std::move(mine);
  };
  JobOptions how;
  if (!options.carries)
    how.around = [](auto inner) { return std::make_unique<DelayedCollectives>(std::move(inner), Link{.carries = false}); };
  if (launched()) {
    at::set_num_threads(1);
    Job job = join(how);
    body(job);
  } else {
    run_ranks(options.ranks, body, how);
  }
  if (!figures.is_null()) std::cout << figures << std::endl;
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  CLI::App app("Measures what sharding costs a rank's thread, a unit.");
  app.add_option("--ranks", options.ranks, "threads, without a launcher")->check(CLI::PositiveNumber);
  app.add_option("--units", options.units)->check(CLI::PositiveNumber);
  app.add_option("--width", options.width)->check(CLI::PositiveNumber);
  app.add_option("--rows", options.rows)->check(CLI::PositiveNumber);
  app.add_option("--steps", options.steps, "of a run")->check(CLI::PositiveNumber);
  app.add_option("--runs", options.runs)->check(CLI::PositiveNumber);
  app.add_flag("--carries", options.carries, "the collectives hand over the bytes");
  CLI11_PARSE(app, argc, argv);
  return bench::run_program("hook_bench", [&] { run(options); });
}
