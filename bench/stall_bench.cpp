// bench/stall_bench.cpp: how long async_save() holds the trainer up, beside one warm memcpy of the same bytes by as many threads as it
// copies with, and how long the save takes in all. The saver has saved once before, so that its slabs are warm. Prints one JSON object.
//   stall_bench --dir DIRECTORY [--mib 512] [--budget-mib 0] [--rounds 1] [--trace FILE]
#include <CLI/CLI.hpp>
#include <cstring>
#include <optional>

#include "bench/measure.h"
#include "bench/states.h"
#include "tessera/checkpoint/async_save.h"
#include "tessera/checkpoint/trace_file.h"
#include "tessera/storage/local_storage.h"

namespace {

using namespace tessera;
using namespace tessera::bench;

struct Options {
  std::string dir;
  int64_t mib = 512;
  int64_t budget_mib = 0;
  int rounds = 1;
  std::string trace;
};

void run(const Options& options) {
  RankState state(shape_of("big", options.mib), cut_along(0, 1), 1, 0, Fill::content);
  const auto comms = thread_comms(1);
  const auto storage = std::make_shared<LocalStorage>(options.dir);
  Costs stall, total;
  SaveReport report;
  TraceFile trace(options.trace);
  {
    BackgroundSaver saver(*comms[0], options.budget_mib << 20);
    for (int round = 0; round <= options.rounds; ++round) {
      const Path target = "round-" + std::to_string(round);
      const bool warms_up = round == 0;
      Costs unasked;
      timed(warms_up ? unasked : total, [&] {
        std::optional<PendingSave> pending;
        timed(warms_up ? unasked : stall, [&] {
          pending = saver.start(storage, target, state.state(), {});
          pending->wait_staged();
        });
        report = pending->wait();
      });
      storage->remove(target);
    }
  }
  trace.finish();
  const auto size = static_cast<size_t>(state.bytes());
  const std::vector<std::byte> from(size, std::byte{1});
  std::vector<std::byte> to(size, std::byte{2});
  Costs copy;
  for (int round = 0; round < options.rounds; ++round) timed(copy, [&] { std::memcpy(to.data(), from.data(), size); });
  std::printf("%s\n", nlohmann::json{{"bytes", state.bytes()},
                                     {"stall", stall},
                                     {"total", total},
                                     {"memcpy", copy},
                                     {"budget_bytes", options.budget_mib << 20},
                                     {"peak_staging_bytes", report.peak_staging_bytes},
                                     {"in_waves", report.in_waves},
                                     {"peak_rss_bytes", peak_rss_bytes()}}
                          .dump()
                          .c_str());
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  CLI::App app("Times how long a save in the background holds the trainer up.");
  app.add_option("--dir", options.dir, "a directory of the file system to measure")->required()->check(CLI::ExistingDirectory);
  app.add_option("--mib", options.mib, "size of the state")->check(CLI::PositiveNumber)->capture_default_str();
  app.add_option("--budget-mib", options.budget_mib, "memory for copies; 0 takes what it takes")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  app.add_option("--rounds", options.rounds)->check(CLI::Range(1, 1000))->capture_default_str();
  app.add_option("--trace", options.trace, "write what every thread did to this file, for Perfetto");
  CLI11_PARSE(app, argc, argv);
  return run_program("stall_bench", [&] { run(options); });
}
