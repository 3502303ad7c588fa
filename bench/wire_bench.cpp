// bench/wire_bench.cpp: what a training step sends, as the kernel counts it on the loopback device, beside what it must send: units of
// uneven sizes, ranks that are processes. Prints one JSON object. wire.py starts it in a network namespace, where nothing else is counted.
//   tessera-launch --ranks 2 -- wire_bench --transport gloo --strategy full_shard
// Units       Bytes and packets of all ranks together, a step; those of payload, TCP, IP and Ethernet headers, and acknowledgements.
#include <ATen/Functions.h>
#include <ATen/Parallel.h>
#include <torch/nn/modules/linear.h>

#include <CLI/CLI.hpp>
#include <fstream>
#include <iostream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "bench/measure.h"
#include "tessera/collectives/delayed_collectives.h"
#include "tessera/comm/on_every_rank.h"
#include "tessera/fsdp/fsdp.h"
#include "tessera/fsdp/optim.h"
#include "tessera/fsdp/unit_list.h"

namespace {

using namespace tessera;
using torch::nn::Linear;

struct Options {
  int steps = 4;
  Strategy strategy = Strategy::full_shard;
  Transport transport = Transport::gloo;
};

// Widths that no number of ranks divides; no two units have the same size.
constexpr int64_t widths[] = {301, 403, 257, 611, 509, 305, 127};

struct UnevenImpl : torch::nn::Module {
  UnevenImpl() {
    for (size_t i = 0; i + 1 < std::size(widths); ++i)
      each.push_back(register_module("each" + std::to_string(i), wrap(Linear(widths[i], widths[i + 1]))));
  }
  at::Tensor forward(at::Tensor x) {
    for (auto& one : each) x = one(x).tanh();
    return x;
  }
  std::vector<Wrapped<torch::nn::LinearImpl>> each;
};
TORCH_MODULE(Uneven);

struct Sent {
  int64_t bytes = 0, packets = 0;
};

// What this process' network namespace has sent over the loopback device so far.
Sent sent_so_far() {
  std::ifstream devices("/proc/self/net/dev");
  for (std::string line; std::getline(devices, line);) {
    const size_t colon = line.find(':');
    if (colon == std::string::npos || line.find("lo") > colon) continue;
    std::istringstream numbers(line.substr(colon + 1));
    std::vector<int64_t> values;
    for (int64_t value = 0; numbers >> value;) values.push_back(value);
    return {values.at(8), values.at(9)};  // after the eight of what was received
  }
  throw Error({.code = Code::not_found, .what = "no loopback device is counted in /proc/self/net/dev"});
}

void run(const Options& options) {
  DelayedCollectives* counted = nullptr;
  const Job job = join({.transport = options.transport, .around = [&](auto inner) {
                          auto made = std::make_unique<DelayedCollectives>(std::move(inner), Link{});
                          counted = made.get();
                          return made;
                        }});
  at::set_num_threads(1);
  auto model = fsdp(job, [] { return Uneven(); }, {.seed = 0, .strategy = options.strategy});
  SGD optim(model, {.lr = 1e-3});
  const at::Tensor x = at::ones({4, widths[0]});
  const auto step = [&] {
    model(x).square().mean().backward();
    optim.step();
    optim.zero_grad();
  };
  const auto asked = [&] {
    int64_t bytes = 0;
    for (const auto& [kind, count] : counted->counts()) bytes += count.bytes;
    return bytes;
  };
  step();
  barrier(job, "before");
  const Sent before = sent_so_far();
  const int64_t asked_before = asked();
  barrier(job, "begin");
  for (int i = 0; i < options.steps; ++i) step();
  barrier(job, "end");
  const Sent after = sent_so_far();
  barrier(job, "after");
  if (job.rank() != 0) return;
  int64_t parameters = 0, padding = 0, most_padding = 0;
  const std::vector<UnitInfo> units = unit_list(model);
  for (const UnitInfo& unit : units) {
    parameters += unit.numel * 4;
    padding += unit.padding_bytes;
    most_padding = std::max(most_padding, unit.padding_bytes);
  }
  std::cout << nlohmann::json{{"ranks", job.size()},
                              {"strategy", name(options.strategy)},
                              {"units", units.size()},
                              {"parameter_bytes", parameters},
                              {"padding_bytes", padding},
                              {"most_padding_bytes", most_padding},
                              {"sent_bytes", (after.bytes - before.bytes) / options.steps},
                              {"sent_packets", (after.packets - before.packets) / options.steps},
                              {"asked_bytes_of_rank_0", (asked() - asked_before) / options.steps}}
            << std::endl;
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  CLI::App app("Counts what a training step sends.");
  const std::map<std::string, Transport> transports = {{"gloo", Transport::gloo}, {"shared_memory", Transport::shared_memory}};
  const std::map<std::string, Strategy> strategies = {
      {"full_shard", Strategy::full_shard}, {"shard_grad_op", Strategy::shard_grad_op}, {"no_shard", Strategy::no_shard}};
  app.add_option("--steps", options.steps)->check(CLI::PositiveNumber);
  app.add_option("--transport", options.transport)->transform(CLI::CheckedTransformer(transports));
  app.add_option("--strategy", options.strategy)->transform(CLI::CheckedTransformer(strategies));
  CLI11_PARSE(app, argc, argv);
  return bench::run_program("wire_bench", [&] { run(options); });
}
