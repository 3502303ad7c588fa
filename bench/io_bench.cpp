// bench/io_bench.cpp: times save() and load() of a state by ranks that are threads. Every round saves to a new directory; loads go into
// tensors that exist, from a warm page cache, and what they loaded is checked. Prints one JSON object: seconds a round.
//   io_bench --dir DIRECTORY [--shape big|mid|small|layers|one] [--replicated] [--mib N] [--ranks 1] [--threads 0] [--rounds 1]
//            [--only save|load|load_unverified] [--trace FILE]
#include <CLI/CLI.hpp>
#include <cstdio>
#include <filesystem>
#include <map>

#include "bench/measure.h"
#include "bench/states.h"
#include "tessera/checkpoint/load.h"
#include "tessera/checkpoint/save.h"
#include "tessera/checkpoint/trace_file.h"

namespace {

using namespace tessera;
using namespace tessera::bench;

struct Options {
  std::string dir;
  std::string shape = "big";
  bool replicated = false;
  int64_t mib = 0;
  int ranks = 1;
  int threads = 0;
  int rounds = 1;
  std::string only;
  std::string trace;
};

// Returns how it went, in words.
std::string save_all(const std::string& directory, std::vector<RankState>& states, int threads) {
  std::string report;
  on_ranks(static_cast<int>(states.size()), [&](Comm& comm) {
    const SaveReport mine = save(comm, directory, states[static_cast<size_t>(comm.rank())].state(), {.io = {.threads = threads}});
    if (comm.rank() == 0) report = describe(mine);
  });
  return report;
}

void load_all(const std::string& directory, std::vector<RankState>& states, int threads, bool verify) {
  on_ranks(static_cast<int>(states.size()), [&](Comm& comm) {
    load(comm, directory, states[static_cast<size_t>(comm.rank())].state(), {.verify = verify, .io = {.threads = threads}});
  });
}

struct OnDisk {
  int64_t bytes = 0;
  int64_t data_files = 0;
};

// Reads everything once, so that what follows finds it in the page cache however it was written.
OnDisk warm(const std::string& directory) {
  OnDisk found;
  std::vector<char> block(1 << 20);
  for (const auto& entry : std::filesystem::directory_iterator(directory)) {
    found.bytes += static_cast<int64_t>(entry.file_size());
    if (entry.path().extension() == ".distcp") ++found.data_files;
    std::ifstream file(entry.path(), std::ios::binary);
    while (file.read(block.data(), static_cast<std::streamsize>(block.size()))) {
    }
  }
  return found;
}

// What a first call costs and later ones do not: threads, lazily bound symbols, the directory itself.
void warm_up(const Options& options) {
  const std::string directory = options.dir + "/warm-up";
  auto states = rank_states({{"t", {options.ranks}}}, cut_along(0, options.ranks), options.ranks, Fill::content);
  save_all(directory, states, options.threads);
  load_all(directory, states, options.threads, true);
  std::filesystem::remove_all(directory);
}

void run(const Options& options) {
  const auto tensors = shape_of(options.shape, options.mib);
  warm_up(options);
  const Layout layout = options.replicated ? Layout(Replicated{}) : cut_along(0, options.ranks);
  auto states = rank_states(tensors, layout, options.ranks, Fill::content);
  auto into = rank_states(tensors, layout, options.ranks, Fill::zero);
  std::map<std::string, Costs> costs;
  OnDisk disk;
  std::string report;
  TraceFile trace(options.trace);
  for (int round = 0; round < options.rounds; ++round) {
    const std::string directory = options.dir + "/round-" + std::to_string(round);
    const auto wanted = [&](const char* what) { return options.only.empty() || options.only == what; };
    Costs unasked;
    timed(wanted("save") ? costs["save"] : unasked, [&] { report = save_all(directory, states, options.threads); });
    disk = warm(directory);
    if (wanted("load")) timed(costs["load"], [&] { load_all(directory, into, options.threads, true); });
    if (wanted("load_unverified")) timed(costs["load_unverified"], [&] { load_all(directory, into, options.threads, false); });
    std::filesystem::remove_all(directory);
  }
  trace.finish();
  int64_t bytes = 0;
  for (const RankState& state : options.only == "save" ? states : into) {
    state.expect_content();
    bytes += state.bytes();
  }
  nlohmann::json out(costs);
  out.update({{"shape", options.shape},
              {"tensors", tensors.size()},
              {"ranks", options.ranks},
              {"threads", options.threads},
              {"bytes", bytes},
              {"disk_bytes", disk.bytes},
              {"data_files", disk.data_files},
              {"save_report", report},
              {"peak_rss_bytes", peak_rss_bytes()}});
  std::printf("%s\n", out.dump().c_str());
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  CLI::App app("Times save and load of a state.");
  app.add_option("--dir", options.dir, "a directory of the file system to measure")->required()->check(CLI::ExistingDirectory);
  app.add_option("--shape", options.shape, "big, mid, small, layers or one")->capture_default_str();
  app.add_flag("--replicated", options.replicated, "every rank has all of it");
  app.add_option("--mib", options.mib, "size of the state; 0 takes the shape's own")->check(CLI::NonNegativeNumber)->capture_default_str();
  app.add_option("--ranks", options.ranks, "ranks, a file each")->check(CLI::Range(1, 1024))->capture_default_str();
  app.add_option("--threads", options.threads, "that save or load a rank's file; 0 leaves it to them")
      ->check(CLI::Range(0, 1024))
      ->capture_default_str();
  app.add_option("--rounds", options.rounds)->check(CLI::Range(1, 1000))->capture_default_str();
  app.add_option("--only", options.only, "time this alone")->check(CLI::IsMember({"save", "load", "load_unverified"}));
  app.add_option("--trace", options.trace, "write what every thread did to this file, for Perfetto");
  CLI11_PARSE(app, argc, argv);
  return run_program("io_bench", [&] { run(options); });
}
