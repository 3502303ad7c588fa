// bench/io_bench.cpp: times save and load of the state of shared/peers/dcp_io.py, by ranks that are threads: blocks of big matrices and
// small vectors, fp32, split along dimension 0, three slots as Adam has them. Prints one JSON object.
#include <sys/resource.h>

#include <CLI/CLI.hpp>
#include <chrono>
#include <filesystem>
#include <iostream>
#include <nlohmann/json.hpp>
#include <thread>

#include "tessera/checkpoint/load.h"
#include "tessera/checkpoint/save.h"
#include "tessera/comm/thread_comm.h"

namespace {

using namespace tessera;

// One rank's part, with the memory that it describes. Filled, so that every page is there.
struct RankState {
  std::vector<std::vector<float>> memory;
  StateDict state;
  int64_t bytes = 0;
};

RankState make_state(int64_t mib, int ranks, int rank, float value) {
  constexpr int64_t hidden = 2048;
  const int64_t per_layer = (4 * hidden * hidden + 8 * hidden) * 3;
  const int64_t layers = std::max<int64_t>(1, (mib * (1 << 20) / 4 + per_layer / 2) / per_layer);
  RankState made;
  const auto add = [&](const std::string& key, Sizes sizes) {
    Box box = whole(sizes);
    box.sizes[0] = sizes[0] / ranks;
    box.offsets[0] = rank * box.sizes[0];
    made.memory.emplace_back(static_cast<size_t>(volume(box)), value);
    made.bytes += volume(box) * 4;
    const View view = dense_view(reinterpret_cast<std::byte*>(made.memory.back().data()), DType::float32, box.sizes);
    made.state.add(key, TensorLeaf{DType::float32, std::move(sizes), {{box, view}}});
  };
  for (int64_t l = 0; l < layers; ++l) {
    for (const std::string slot : {"param", "exp_avg", "exp_avg_sq"}) {
      const std::string prefix = slot + ".layers." + std::to_string(l) + ".";
      add(prefix + "qkv", {3 * hidden, hidden});
      add(prefix + "out", {hidden, hidden});
      add(prefix + "norm", {4 * hidden});
      add(prefix + "bias", {4 * hidden});
    }
  }
  return made;
}

double cpu_seconds() {
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& t) { return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_usec) * 1e-6; };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

struct Times {
  std::vector<double> wall, cpu;
  void add(double wall_s, double cpu_s) {
    wall.push_back(wall_s);
    cpu.push_back(cpu_s);
  }
};

template <class Work>
void timed(Times& times, Work work) {
  const auto begin = std::chrono::steady_clock::now();
  const double cpu = cpu_seconds();
  work();
  times.add(std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count(), cpu_seconds() - cpu);
}

template <class Body>
void on_threads(int ranks, Body body) {
  auto comms = thread_comms(ranks);
  std::vector<Outcome<Done>> outcomes(comms.size());
  std::vector<std::thread> threads;
  for (size_t r = 0; r < comms.size(); ++r) threads.emplace_back([&, r] { outcomes[r] = capture([&] { body(*comms[r]); }); });
  for (auto& thread : threads) thread.join();
  for (auto& outcome : outcomes) outcome.or_throw();
}

}  // namespace

int main(int argc, char** argv) {
  std::string directory;
  int64_t mib = 1024;
  int ranks = 2;
  int repeat = 3;
  CLI::App app("Times save and load of a synthetic sharded state.");
  app.add_option("--dir", directory)->required();
  app.add_option("--mib", mib);
  app.add_option("--ranks", ranks);
  app.add_option("--repeat", repeat);
  CLI11_PARSE(app, argc, argv);
  Times saves, loads;
  int64_t bytes = 0;
  {
    std::vector<RankState> states;
    for (int r = 0; r < ranks; ++r) states.push_back(make_state(mib, ranks, r, static_cast<float>(r + 1)));
    for (const RankState& state : states) bytes += state.bytes;
    for (int i = 0; i < repeat; ++i) {
      const std::string target = directory + "/ours" + std::to_string(i);
      timed(saves, [&] { on_threads(ranks, [&](Comm& comm) { save(comm, target, states[static_cast<size_t>(comm.rank())].state); }); });
    }
  }
  std::vector<RankState> states;
  for (int r = 0; r < ranks; ++r) states.push_back(make_state(mib, ranks, r, 0));
  for (int i = 0; i < repeat; ++i) {
    timed(loads, [&] {
      on_threads(ranks,
                 [&](Comm& comm) { load(comm, directory + "/ours" + std::to_string(i), states[static_cast<size_t>(comm.rank())].state); });
    });
  }
  std::cout << nlohmann::json{{"GiB", static_cast<double>(bytes) / (1 << 30)},
                              {"ranks", ranks},
                              {"save_s", saves.wall},
                              {"save_cpu_s", saves.cpu},
                              {"load_s", loads.wall},
                              {"load_cpu_s", loads.cpu}}
            << "\n";
  for (int i = 0; i < repeat; ++i) std::filesystem::remove_all(directory + "/ours" + std::to_string(i));
}
