// bench/optim_bench.cpp: times optimizer steps over the shards of a GPT of 29.7 million parameters, as one rank. Prints one JSON object.
#include <ATen/Parallel.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/randn_like.h>
#include <torch/nn/module.h>

#include <CLI/CLI.hpp>
#include <iostream>

#include "bench/measure.h"
#include "tessera/fsdp/fsdp.h"
#include "tessera/fsdp/optim.h"

namespace {

using namespace tessera;

// The shapes of step_bench's model, as optim_stock.py has them.
struct BlockImpl : torch::nn::Module {
  explicit BlockImpl(int64_t w) {
    int number = 0;
    for (const std::vector<int64_t>& sizes :
         {std::vector<int64_t>{w}, {w}, {w}, {w}, {3 * w, w}, {3 * w}, {w, w}, {w}, {4 * w, w}, {4 * w}, {w, 4 * w}, {w}}) {
      register_parameter("p" + std::to_string(number++), at::randn(sizes));
    }
  }
  at::Tensor forward(const at::Tensor& x) { return x; }
};
TORCH_MODULE(Block);

struct ModelImpl : torch::nn::Module {
  ModelImpl() {
    constexpr int64_t width = 512, vocab = 4096, longest = 512;
    register_parameter("tok", at::randn({vocab, width}));
    register_parameter("pos", at::randn({longest, width}));
    for (int i = 0; i < 8; ++i) register_module("block" + std::to_string(i), wrap(Block(width)));
    register_parameter("norm", at::randn({width}));
    register_parameter("shift", at::randn({width}));
    register_parameter("head", at::randn({vocab, width}));
  }
  at::Tensor forward(const at::Tensor& x) { return x; }
};
TORCH_MODULE(Model);

}  // namespace

int main(int argc, char** argv) {
  int threads = 1, steps = 10;
  CLI::App app("Times AdamW steps.");
  app.add_option("--threads", threads);
  app.add_option("--steps", steps, "counted after three that are not");
  CLI11_PARSE(app, argc, argv);
  nlohmann::json found;
  run_ranks(1, [&](Job& job) {
    at::set_num_threads(threads);
    auto model = fsdp(job, [] { return Model(); }, {.seed = 0});
    int64_t numel = 0;
    for (const NamedFlatUnit& named : flat_units(model)) {
      named.unit->shard().mutable_grad() = at::randn_like(named.unit->shard().detach());
      numel += named.unit->layout().numel;
    }
    found["parameters"] = numel;
    for (const bool fused : {false, true}) {
      AdamW optimizer(model, {.lr = 1e-4, .fused = fused});
      bench::Costs costs;
      for (int step = 0; step < 3; ++step) optimizer.step();
      for (int step = 0; step < steps; ++step) bench::timed(costs, [&] { optimizer.step(); });
      found[fused ? "fused" : "default"] = costs;
    }
  });
  std::cout << found << std::endl;
}
