// bench/overlap_bench.cpp: how much of communication is hidden behind computing, over a link as slow as computing. Prints one JSON object.
//   overlap_bench [--ranks 2] [--units 8] [--trace FILE]
// Trace       What each rank computed, what its link carried, and when it waited (checkpoint/trace_file.h).
// Computing   Each unit's forward takes --forward-ms, its backward twice that: by sleeping, so that few cores and a busy machine do not
//             matter. --computes: by multiplying matrices for about as long.
// Link        Carries one unit's whole parameters in --link times the forward of one (DelayedCollectives). In backward a unit is gathered
//             and its gradient reduced, while it computes for twice as long.
// Hidden      1 − the time that rank 0 waited over the time that its link carried, of all operations but the root's gather, the first
//             unit's gather and the last reduce-scatter (the root's), which nothing can hide. `waits_ms` says what it waited for, a step.
#include <ATen/Functions.h>
#include <ATen/Parallel.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/nn/modules/linear.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <fstream>
#include <iostream>
#include <map>
#include <mutex>
#include <nlohmann/json.hpp>
#include <set>
#include <thread>

#include "bench/measure.h"
#include "tessera/checkpoint/trace_file.h"
#include "tessera/collectives/delayed_collectives.h"
#include "tessera/fsdp/fsdp.h"
#include "tessera/fsdp/optim.h"

namespace {

using namespace tessera;
using Clock = std::chrono::steady_clock;
using Milli = std::chrono::duration<double, std::milli>;

struct Options {
  int ranks = 2, units = 8, steps = 5, prefetch = 1;
  double forward_ms = 10, link = 1;
  bool computes = false;
  std::string trace;
};

struct Span {
  const char* what;
  Clock::time_point begin, end;
};
thread_local std::vector<Span> computed;  // by this rank

void compute(const char* what, double ms, bool computes) {
  const auto begin = Clock::now(), end = begin + std::chrono::duration_cast<Clock::duration>(Milli(ms));
  if (computes) {
    const at::Tensor a = at::ones({96, 96});
    while (Clock::now() < end) at::mm(a, a);
  } else {
    std::this_thread::sleep_until(end);
  }
  computed.push_back({what, begin, Clock::now()});
}

struct Busy : torch::autograd::Function<Busy> {
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& x, double ms, bool computes) {
    context->saved_data["ms"] = ms;
    context->saved_data["computes"] = computes;
    compute("forward", ms, computes);
    return x.clone();
  }
  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context, torch::autograd::variable_list gradients) {
    compute("backward", 2 * context->saved_data["ms"].toDouble(), context->saved_data["computes"].toBool());
    return {gradients[0], at::Tensor(), at::Tensor()};
  }
};

constexpr int64_t width = 64;

struct UnitImpl : torch::nn::Module {
  explicit UnitImpl(const Options& options)
      : linear(register_module("linear", torch::nn::Linear(width, width))), ms(options.forward_ms), computes(options.computes) {}
  at::Tensor forward(const at::Tensor& x) { return Busy::apply(linear(x).tanh(), ms, computes); }
  torch::nn::Linear linear;
  double ms;
  bool computes;
};
TORCH_MODULE(Unit);

struct ChainImpl : torch::nn::Module {
  explicit ChainImpl(const Options& options) : in(register_module("in", torch::nn::Linear(width, width))) {
    for (int i = 0; i < options.units; ++i) each.push_back(register_module("each" + std::to_string(i), wrap(Unit(options))));
  }
  at::Tensor forward(const at::Tensor& given) {
    at::Tensor x = in(given);
    for (auto& one : each) x = one(x);
    return x;
  }
  torch::nn::Linear in;
  std::vector<Wrapped<UnitImpl>> each;
};
TORCH_MODULE(Chain);

// When the link carried each operation: the rule of DelayedCollectives.
std::vector<Span> carried(const std::vector<CollectiveRecord>& records, double bytes_per_second, std::set<std::string>& names) {
  std::vector<Span> spans;
  Clock::time_point free{};
  for (const CollectiveRecord& record : records) {
    const auto begin = std::max(free, record.launched);
    const std::chrono::duration<double> takes(static_cast<double>(record.bytes) / bytes_per_second);
    free = begin + std::chrono::duration_cast<Clock::duration>(takes);
    spans.push_back({names.emplace(std::string(name(record.kind)) + " " + record.label).first->c_str(), begin, free});
  }
  return spans;
}

struct Result {
  double carried_ms = 0, waited_ms = 0, steps_ms = 0;
  int64_t operations = 0;
  std::map<std::string, double> waits_ms;  // by operation
};

// Of one step's operations, those that can be hidden.
void add_step(Result& result, const std::vector<CollectiveRecord>& records, const std::vector<Span>& link, size_t begin, size_t end) {
  size_t first = end, last = end;
  const auto is_gather = [&](size_t i) { return records[i].kind == CollectiveKind::all_gather; };
  const auto is_root = [&](size_t i) { return records[i].label.find('.') == std::string::npos; };
  for (size_t i = begin; i < end; ++i) {
    if (first == end && is_gather(i) && !is_root(i)) first = i;
    if (!is_gather(i)) last = i;
  }
  for (size_t i = begin; i < end; ++i) {
    if (i == first || i == last || (is_gather(i) && is_root(i))) continue;
    const double waited = Milli(std::max(Clock::duration(0), records[i].completed - records[i].waited)).count();
    result.carried_ms += Milli(link[i].end - link[i].begin).count();
    result.waited_ms += waited;
    result.waits_ms[link[i].what] += waited;
    ++result.operations;
  }
}

void add_row(std::vector<TraceRow>& rows, const std::string& title, const std::vector<Span>& spans, Clock::time_point zero) {
  TraceRow row{title, {}};
  for (const Span& span : spans) {
    const auto ns = [](Clock::duration d) { return std::chrono::duration_cast<std::chrono::nanoseconds>(d).count(); };
    row.events.push_back({.what = span.what, .begin_ns = ns(span.begin - zero), .length_ns = ns(span.end - span.begin)});
  }
  rows.push_back(std::move(row));
}

void run(const Options& options) {
  const int64_t unit_bytes = (width * width + width) * 4;
  // A rank sends so much for a gather of one unit.
  const double bytes_a_gather = static_cast<double>(unit_bytes) * (options.ranks - 1) / options.ranks;
  const double bytes_per_second = bytes_a_gather / (options.forward_ms * options.link / 1e3);
  Result result;
  std::vector<TraceRow> rows;
  std::set<std::string> names;  // outlives the rows
  std::mutex mutex;
  const auto zero = Clock::now();
  const auto around = [&](auto inner) {
    return std::make_unique<DelayedCollectives>(std::move(inner), Link{.bytes_per_second = bytes_per_second});
  };
  run_ranks(options.ranks,
            [&](Job& job) {
              const auto& delayed = dynamic_cast<DelayedCollectives&>(job.collectives());
              auto model = fsdp(job, [&] { return Chain(options); }, {.seed = 0, .prefetch = options.prefetch});
              SGD optim(model, {.lr = 1e-3});
              const at::Tensor x = at::ones({4, width});
              std::vector<size_t> begins;
              Clock::time_point begun;
              for (int step = 0; step < options.steps + 2; ++step) {
                if (step == 2) begun = Clock::now();  // the order is known
                if (step >= 2) begins.push_back(delayed.records().size());
                model(x).square().mean().backward();
                optim.step();
                optim.zero_grad();
              }
              const auto records = delayed.records();
              begins.push_back(records.size());
              const std::lock_guard lock(mutex);
              const std::vector<Span> link = carried(records, bytes_per_second, names);
              std::vector<Span> waits;
              for (const CollectiveRecord& record : records)
                waits.push_back({"waits", record.waited, std::max(record.waited, record.completed)});
              const std::string title = "rank " + std::to_string(job.rank());
              add_row(rows, title + " computes", computed, zero);
              add_row(rows, title + " link", link, zero);
              add_row(rows, title + " waits", waits, zero);
              if (job.rank() != 0) return;
              result.steps_ms = Milli(Clock::now() - begun).count() / options.steps;
              for (size_t step = 0; step + 1 < begins.size(); ++step) add_step(result, records, link, begins[step], begins[step + 1]);
            },
            {.around = around});
  nlohmann::json waits;  // but for what is the noise of sleeping
  for (const auto& [what, ms] : result.waits_ms) {
    if (ms / options.steps > options.forward_ms / 20) waits[what] = ms / options.steps;
  }
  if (!options.trace.empty()) std::ofstream(options.trace) << trace_json(rows);
  std::cout << nlohmann::json{{"ranks", options.ranks},
                              {"units", options.units},
                              {"link", options.link},
                              {"computes", options.computes},
                              {"hidden", 1 - result.waited_ms / result.carried_ms},
                              {"waited_ms_a_step", result.waited_ms / options.steps},
                              {"waits_ms", waits},
                              {"carried_ms_a_step", result.carried_ms / options.steps},
                              {"computing_ms_a_step", 3 * options.forward_ms * options.units},
                              {"step_ms", result.steps_ms},
                              {"operations_a_step", static_cast<double>(result.operations) / options.steps}}
            << std::endl;
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  CLI::App app("Measures how much of communication is hidden behind computing.");
  app.add_option("--ranks", options.ranks, "threads")->check(CLI::Range(2, 64));
  app.add_option("--units", options.units)->check(CLI::Range(2, 1000));
  app.add_option("--steps", options.steps)->check(CLI::PositiveNumber);
  app.add_option("--prefetch", options.prefetch, "units gathered ahead");
  app.add_option("--forward-ms", options.forward_ms, "what a unit's forward takes")->check(CLI::PositiveNumber);
  app.add_option("--link", options.link, "what the link takes for a unit, in forwards")->check(CLI::PositiveNumber);
  app.add_flag("--computes", options.computes, "multiply matrices rather than sleep");
  app.add_option("--trace", options.trace, "write what every rank did to this file, for Perfetto");
  CLI11_PARSE(app, argc, argv);
  return bench::run_program("overlap_bench", [&] { run(options); });
}
