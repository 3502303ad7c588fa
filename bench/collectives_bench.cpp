// bench/collectives_bench.cpp: how fast ranks hand each other tensors: over Gloo and over shared memory as processes, over threads, and
// what copying the same bytes takes. Prints one JSON object.
//   collectives_bench [--ranks 2] [--seconds 0.5]
// Units: GB/s of the whole tensor (all_gather's full, reduce_scatter's full, all_reduce's tensor) a rank gets or gives; medians.
#include <ATen/ops/ones.h>
#include <sys/wait.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <iostream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "tessera/collectives/job.h"
#include "tests/support/launch/launch.h"

namespace {

using namespace tessera;
using Clock = std::chrono::steady_clock;
using nlohmann::json;

struct Options {
  int ranks = 2;
  double seconds = 0.5;
  bool rank_of_a_job = false;
};

constexpr int64_t sizes_bytes[] = {int64_t{4} << 10, int64_t{1} << 20, int64_t{64} << 20};
constexpr int fewest = 3, most = 2000;

// The median seconds of `once`, run for about `seconds`; all ranks take as many turns as rank 0.
template <class Once>
double median_seconds(Job& job, double seconds, Once once) {
  std::vector<double> times;
  once();  // touches the memory
  const at::Tensor go_on = at::ones({1}, at::kLong);
  const auto end = Clock::now() + std::chrono::duration<double>(seconds);
  while (go_on.item<int64_t>() == 1) {
    const auto begin = Clock::now();
    once();
    times.push_back(std::chrono::duration<double>(Clock::now() - begin).count());
    const bool enough = times.size() >= fewest && (Clock::now() > end || times.size() >= most);
    if (job.rank() == 0) go_on.fill_(enough ? 0 : 1);
    job.collectives().broadcast(go_on, 0)->wait();
  }
  std::ranges::sort(times);
  return times[times.size() / 2];
}

json measure(Job& job, double seconds) {
  json figures;
  for (const int64_t bytes : sizes_bytes) {
    const int64_t numel = bytes / 4;
    const at::Tensor full = at::ones({numel}), shard = at::ones({numel / job.size()}), out = at::ones({numel / job.size()});
    const auto in_place = [&](auto launch) {
      const double s = median_seconds(job, seconds, [&] { launch()->wait(); });
      return json{{"us", s * 1e6}, {"GB_s", static_cast<double>(bytes) / s / 1e9}};
    };
    Collectives& all = job.collectives();
    figures[std::to_string(bytes)] = {{"all_gather", in_place([&] { return all.all_gather_into(full, shard); })},
                                      {"reduce_scatter", in_place([&] { return all.reduce_scatter_into(out, full, Reduce::mean); })},
                                      {"all_reduce", in_place([&] { return all.all_reduce(full, Reduce::max); })},
                                      {"broadcast", in_place([&] { return all.broadcast(full, 0); })}};
  }
  return figures;
}

// Every rank copies at once, as in an all_gather: what memory gives them all.
json copies(int ranks, double seconds) {
  json figures;
  run_ranks(ranks, [&](Job& job) {
    for (const int64_t bytes : sizes_bytes) {
      const at::Tensor from = at::ones({bytes / 4}), to = at::ones({bytes / 4});
      const double s = median_seconds(job, seconds, [&] { std::memcpy(to.mutable_data_ptr(), from.const_data_ptr(), from.nbytes()); });
      if (job.rank() == 0) figures[std::to_string(bytes)] = {{"us", s * 1e6}, {"GB_s", static_cast<double>(bytes) / s / 1e9}};
    }
  });
  return figures;
}

json over_processes(const char* self, const Options& options, const std::string& transport) {
  std::ostringstream out;
  const int code =
      launch({.ranks = options.ranks,
              .command = {"env", "TESSERA_TRANSPORT=" + transport, self, "--rank-of-a-job", "--seconds", std::to_string(options.seconds)}},
             out);
  std::istringstream lines(out.str());
  for (std::string line; std::getline(lines, line);) {
    if (line.starts_with("[rank 0] {")) return json::parse(line.substr(9));
  }
  throw Error({.code = Code::internal, .what = "ranks over " + transport + " ended with " + std::to_string(code) + ": " + out.str()});
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  CLI::App app("Times collectives over each transport.");
  app.add_option("--ranks", options.ranks)->check(CLI::Range(1, 64))->capture_default_str();
  app.add_option("--seconds", options.seconds, "for each figure")->capture_default_str();
  app.add_flag("--rank-of-a-job", options.rank_of_a_job, "as a process of the job that the environment names");
  CLI11_PARSE(app, argc, argv);
  try {
    if (options.rank_of_a_job) {
      Job job = join();
      const json figures = measure(job, options.seconds);
      if (job.rank() == 0) std::cout << figures.dump() << std::endl;
      return 0;
    }
    json threads;
    run_ranks(options.ranks, [&](Job& job) {
      json figures = measure(job, options.seconds);
      if (job.rank() == 0) threads = std::move(figures);
    });
    std::cout << json{{"ranks", options.ranks},
                      {"memcpy", copies(options.ranks, options.seconds)},
                      {"threads", threads},
                      {"shared_memory", over_processes(argv[0], options, "shared_memory")},
                      {"gloo", over_processes(argv[0], options, "gloo")}}
              << std::endl;
    return 0;
  } catch (const Error& error) {
    std::cerr << "collectives_bench: error: " << describe(error.fault()) << "\n";
    return exit_code(error.code());
  }
}
