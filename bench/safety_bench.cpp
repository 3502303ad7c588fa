// bench/safety_bench.cpp: what digests, the syncs of directories and the sidecar cost: save() beside the same bytes written by the same
// loop without them (CRC-32 taken, data and metadata fsynced and renamed into place, as stock does), rounds in shuffled order. Prints
// medians of wall and CPU seconds, and the digests alone.
//   safety_bench --dir DIRECTORY [--mib 1024] [--tensors 128] [--rounds 7]
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <random>

#include "bench/measure.h"
#include "tessera/base/digest.h"
#include "tessera/checkpoint/save.h"
#include "tessera/comm/thread_comm.h"
#include "tessera/format/dcp.h"
#include "tessera/storage/local_storage.h"
#include "tessera/transfer/write_shards.h"

namespace {

using namespace tessera;
using bench::cpu_seconds;

struct Options {
  std::string dir;
  int64_t mib = 1024;
  int64_t tensors = 128;
  int rounds = 7;
};

struct Times {
  double wall = 0;
  double cpu = 0;
};

Times timed(const std::function<void()>& work) {
  ::sync();  // nobody pays for what came before
  const double cpu = cpu_seconds();
  const auto begin = std::chrono::steady_clock::now();
  work();
  return {std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count(), cpu_seconds() - cpu};
}

// The same file and metadata without digests, directory syncs and sidecar.
void save_plainly(const StateDict& state, LocalStorage& storage, const Path& target) {
  const Described described = describe(state, 0, 1);
  const SavePlan plan = plan_save({described.description}, "bench");
  const Path staging = storage.stage(target, "bench");
  StateShards source(described);
  const auto file = storage.create(staging + "/" + plan.ranks[0].file);
  FileLayout layout;
  lay_out(plan.ranks[0], source, layout);
  SlabRing ring(least_slabs, block_bytes);
  uint32_t crc = 0;
  BlockCutter cutter(ring, true, [&](const Block& block) {
    crc = crc32(block.bytes, crc);
    file->write(block.begin_bytes, block.bytes);
  });
  cut_shards(plan.ranks[0], layout, source, cutter);
  file->close();
  const auto metadata = storage.create(staging + "/" + format::metadata_file);
  metadata->write(0, format::encode_metadata(plan.manifest));
  metadata->close();
  std::filesystem::rename(storage.root() + "/" + staging, storage.root() + "/" + target);
}

double median(std::vector<double> values) {
  std::ranges::sort(values);
  return values[values.size() / 2];
}

void run(const Options& options) {
  const int64_t elements = options.mib * (1 << 20) / 4 / options.tensors;
  std::vector<std::vector<float>> memory;
  StateDict state;
  for (int64_t t = 0; t < options.tensors; ++t) {
    memory.emplace_back(static_cast<size_t>(elements), static_cast<float>(t));
    state.add("layer." + std::to_string(t),
              replicated(dense_view(reinterpret_cast<std::byte*>(memory.back().data()), DType::float32, {elements})));
  }
  const auto comms = thread_comms(1);
  LocalStorage storage(options.dir);
  const std::map<std::string, std::function<void(const Path&)>> ways{
      {"save", [&](const Path& target) { save(*comms[0], storage, target, state, {.io = {.threads = 1}}); }},
      {"without", [&](const Path& target) { save_plainly(state, storage, target); }}};
  std::map<std::string, std::vector<double>> wall, cpu;
  std::mt19937 random(1);
  for (int round = 0; round <= options.rounds; ++round) {
    std::vector<std::string> order{"save", "without"};
    std::ranges::shuffle(order, random);
    for (const std::string& way : order) {
      const Times times = timed([&] { ways.at(way)("target"); });
      storage.remove("target");
      if (round == 0) continue;  // warms up
      wall[way].push_back(times.wall);
      cpu[way].push_back(times.cpu);
    }
  }
  const Times digests = timed([&] {
    for (const auto& tensor : memory) {
      const auto bytes = std::as_bytes(std::span(tensor));
      for (size_t at = 0; at < bytes.size(); at += block_bytes) digest(bytes.subspan(at, std::min<size_t>(block_bytes, bytes.size() - at)));
    }
  });
  // Pair by pair: what the machine does in one minute it does to both.
  std::vector<double> ratios;
  for (size_t r = 0; r < wall["save"].size(); ++r) ratios.push_back(wall["save"][r] / wall["without"][r]);
  nlohmann::json out{{"mib", options.mib},
                     {"tensors", options.tensors},
                     {"rounds", options.rounds},
                     {"save_wall_s", median(wall["save"])},
                     {"without_wall_s", median(wall["without"])},
                     {"save_cpu_s", median(cpu["save"])},
                     {"without_cpu_s", median(cpu["without"])},
                     {"ratio_of_medians", median(wall["save"]) / median(wall["without"])},
                     {"median_of_ratios", median(ratios)},
                     {"digests_alone_s", digests.wall}};
  std::printf("%s\n", out.dump(1).c_str());
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  CLI::App app("What the safety of a save costs, beside the same save without it");
  app.add_option("--dir", options.dir, "An empty directory of the file system to measure")->required();
  app.add_option("--mib", options.mib)->capture_default_str();
  app.add_option("--tensors", options.tensors)->capture_default_str();
  app.add_option("--rounds", options.rounds)->check(CLI::Range(1, 1000))->capture_default_str();
  CLI11_PARSE(app, argc, argv);
  try {
    run(options);
    return 0;
  } catch (...) {
    std::fprintf(stderr, "safety_bench: %s\n", describe(fault_of(std::current_exception())).c_str());
    return 1;
  }
}
