// bench/reshard_bench.cpp: a checkpoint of M ranks loaded by N: bytes read beside those that are needed, and seconds beside a load by N
// ranks of what N ranks saved; and a load of a replicated state by ranks of one host, of which every byte should be read once. Times are
// with a warm page cache; bytes are counted as the calls have them, and as they come from the disk when the page cache has nothing (0 on a
// file system in memory). Matrices of 2,048 × 1,024 floats. Prints one JSON object.
//   reshard_bench --dir DIRECTORY [--mib 512] [--from 4] [--to 3] [--cut rows|columns|whole] [--rounds 1]
#include <fcntl.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <filesystem>
#include <set>

#include "bench/measure.h"
#include "bench/states.h"
#include "tessera/checkpoint/load.h"
#include "tessera/checkpoint/save.h"

namespace {

using namespace tessera;
using namespace tessera::bench;

struct Options {
  std::string dir;
  int64_t mib = 512;
  int from = 4;
  int to = 3;
  std::string cut = "rows";
  int rounds = 1;
};

const std::set<std::string> cuts{"rows", "columns", "whole"};

Layout layout_of(const std::string& cut, int ranks) {
  if (cut == "whole") return Replicated{};
  return cut_along(cut == "rows" ? 0 : 1, ranks);
}

struct Loaded {
  Costs costs;
  int64_t read_bytes = 0;    // as the report says: of tensor data
  int64_t called_bytes = 0;  // by system calls, whatever they were for
  int64_t storage_bytes = 0;  // from the disk
};

void to_json(nlohmann::json& json, const Loaded& loaded) {
  json = loaded.costs;
  json.update({{"read_bytes", loaded.read_bytes}, {"called_bytes", loaded.called_bytes}, {"storage_bytes", loaded.storage_bytes}});
}

void load_once(const std::string& directory, std::vector<RankState>& into, Loaded& loaded) {
  const int64_t called = bytes_read_so_far("rchar"), from_storage = bytes_read_so_far("read_bytes");
  timed(loaded.costs, [&] {
    on_ranks(static_cast<int>(into.size()), [&](Comm& comm) {
      const LoadReport report = load(comm, directory, into[static_cast<size_t>(comm.rank())].state());
      if (comm.rank() == 0) loaded.read_bytes = report.read_bytes;
    });
  });
  loaded.called_bytes = bytes_read_so_far("rchar") - called;
  loaded.storage_bytes = bytes_read_so_far("read_bytes") - from_storage;
}

// Asks the page cache to forget the files, which are on the disk since they were saved.
void forget(const std::string& directory) {
  for (const auto& entry : std::filesystem::directory_iterator(directory)) {
    const int file = ::open(entry.path().c_str(), O_RDONLY | O_CLOEXEC);
    if (file < 0) continue;
    ::posix_fadvise(file, 0, 0, POSIX_FADV_DONTNEED);
    ::close(file);
  }
}

void run(const Options& options) {
  const auto tensors = shape_of("square", options.mib);
  const std::string resharded = options.dir + "/resharded", equal = options.dir + "/equal";
  for (const auto& [directory, ranks] : {std::pair(resharded, options.from), std::pair(equal, options.to)}) {
    auto states = rank_states(tensors, layout_of(options.cut, ranks), ranks, Fill::content);
    on_ranks(ranks, [&](Comm& comm) { save(comm, directory, states[static_cast<size_t>(comm.rank())].state()); });
  }
  auto into = rank_states(tensors, layout_of(options.cut, options.to), options.to, Fill::zero);
  Loaded other, same, warm, cold;
  forget(resharded);
  load_once(resharded, into, cold);
  load_once(resharded, into, warm);
  load_once(equal, into, warm);
  for (int round = 0; round < options.rounds; ++round) {
    load_once(resharded, into, other);
    for (const RankState& state : into) state.expect_content();
    load_once(equal, into, same);
  }
  int64_t needed = 0;  // each byte once, although replicas want it more than once
  for (const Tensor& tensor : tensors) needed += volume(tensor.sizes) * 4;
  std::printf("%s\n", nlohmann::json{{"from", options.from},
                                     {"to", options.to},
                                     {"cut", options.cut},
                                     {"needed_bytes", needed},
                                     {"resharded", other},
                                     {"cold", cold},
                                     {"equal", same},
                                     {"peak_rss_bytes", peak_rss_bytes()}}
                          .dump()
                          .c_str());
  std::filesystem::remove_all(resharded);
  std::filesystem::remove_all(equal);
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  CLI::App app("Times loads by another number of ranks than saved.");
  app.add_option("--dir", options.dir, "a directory of the file system to measure")->required()->check(CLI::ExistingDirectory);
  app.add_option("--mib", options.mib, "size of the state")->check(CLI::PositiveNumber)->capture_default_str();
  app.add_option("--from", options.from, "ranks that save")->check(CLI::Range(1, 1024))->capture_default_str();
  app.add_option("--to", options.to, "ranks that load")->check(CLI::Range(1, 1024))->capture_default_str();
  app.add_option("--cut", options.cut, "how matrices are split over ranks; whole: every rank has all of them")
      ->check(CLI::IsMember(cuts))
      ->capture_default_str();
  app.add_option("--rounds", options.rounds)->check(CLI::Range(1, 1000))->capture_default_str();
  CLI11_PARSE(app, argc, argv);
  return run_program("reshard_bench", [&] { run(options); });
}
