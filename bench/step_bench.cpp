// bench/step_bench.cpp: times one training step of the GPT of shared/peers/fsdp_step.py: FSDP over the ranks of the launcher's
// environment, over `--ranks` threads, or one process without a wrapper. Prints one JSON object.
// Units       Milliseconds of wall time and of a process' CPU, all its ranks' together; MiB of rank 0's process, at its peak and before
//             the model is built.
#include <ATen/Functions.h>
#include <torch/nn/modules/container/modulelist.h>
#include <torch/nn/modules/embedding.h>
#include <torch/nn/modules/linear.h>
#include <torch/nn/modules/normalization.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <iostream>
#include <nlohmann/json.hpp>

#include "bench/measure.h"
#include "tessera/comm/on_every_rank.h"
#include "tessera/fsdp/fsdp.h"
#include "tessera/fsdp/optim.h"

namespace {

using namespace tessera;
using torch::nn::Embedding;
using torch::nn::LayerNorm;
using torch::nn::LayerNormOptions;
using torch::nn::Linear;
using torch::nn::LinearOptions;

constexpr int64_t vocab = 4096, longest = 512, head_width = 64;

struct BlockImpl : torch::nn::Module {
  explicit BlockImpl(int64_t w)
      : n1(register_module("n1", LayerNorm(LayerNormOptions({w})))),
        n2(register_module("n2", LayerNorm(LayerNormOptions({w})))),
        qkv(register_module("qkv", Linear(w, 3 * w))),
        out(register_module("out", Linear(w, w))),
        up(register_module("up", Linear(w, 4 * w))),
        down(register_module("down", Linear(4 * w, w))),
        heads(w / head_width) {}
  at::Tensor forward(const at::Tensor& x) {
    const auto split = [&](const at::Tensor& t) { return t.view({x.size(0), x.size(1), heads, head_width}).transpose(1, 2); };
    const auto parts = qkv(n1(x)).chunk(3, -1);
    const at::Tensor mixed = at::scaled_dot_product_attention(split(parts[0]), split(parts[1]), split(parts[2]), {}, 0.0, true);
    const at::Tensor attended = x + out(mixed.transpose(1, 2).reshape(x.sizes()));
    return attended + down(at::gelu(up(n2(attended))));
  }
  LayerNorm n1, n2;
  Linear qkv, out, up, down;
  int64_t heads;
};
TORCH_MODULE(Block);

struct ModelImpl : torch::nn::Module {
  ModelImpl(int64_t layers, int64_t w)
      : tok(register_module("tok", Embedding(vocab, w))), pos(register_module("pos", Embedding(longest, w))) {
    for (int64_t i = 0; i < layers; ++i) blocks.push_back(register_module("block" + std::to_string(i), wrap(Block(w))));
    norm = register_module("norm", LayerNorm(LayerNormOptions({w})));
    head = register_module("head", Linear(LinearOptions(w, vocab).bias(false)));
  }
  at::Tensor forward(const at::Tensor& ids) {
    at::Tensor x = tok(ids) + pos(at::arange(ids.size(1)));
    for (auto& block : blocks) x = block(x);
    return head(norm(x));
  }
  Embedding tok, pos;
  std::vector<Wrapped<BlockImpl>> blocks;
  LayerNorm norm{nullptr};
  Linear head{nullptr};
};
TORCH_MODULE(Model);

struct Options {
  int64_t layers = 8, width = 512, seq = 128, batch = 4;
  int steps = 20;
  int ranks = 0;  // threads, without a launcher
  bool fused = false;
  Transport transport = Transport::automatic;
  Strategy strategy = Strategy::full_shard;
};

struct Figures {
  std::vector<double> wall_ms;  // of steps, ascending
  double cpu_ms = 0;  // a step, in the mean
  double page_faults = 0;
};

template <class M>
Figures time_steps(const Job& job, M& model, const Options& options) {
  AdamW optim(model, {.lr = 1e-4, .fused = options.fused});
  std::vector<double> times;
  double cpu_s = 0;
  int64_t faults = 0;
  for (int step = 0; step < options.steps + 3; ++step) {
    const at::Tensor ids = at::randint(vocab, {options.batch, options.seq + 1}, at::kLong);
    barrier(job, "step");
    if (step == 3) {
      cpu_s = bench::cpu_seconds();
      faults = bench::page_faults();
    }
    const auto begin = std::chrono::steady_clock::now();
    const at::Tensor logits = model(ids.narrow(1, 0, options.seq));
    at::cross_entropy_loss(logits.flatten(0, 1), ids.narrow(1, 1, options.seq).flatten()).backward();
    optim.step();
    optim.zero_grad();
    times.push_back(std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - begin).count());
  }
  times.erase(times.begin(), times.begin() + 3);
  std::ranges::sort(times);
  const double cpu_ms = (bench::cpu_seconds() - cpu_s) * 1e3 / options.steps;
  return {times, cpu_ms, static_cast<double>(bench::page_faults() - faults) / options.steps};
}

Figures time_sharded(const Job& job, const Options& options) {
  auto model = fsdp(job, [&] { return Model(options.layers, options.width); }, {.seed = 0, .strategy = options.strategy});
  return time_steps(job, model, options);
}

Figures time_local(const Job& job, const Options& options) {
  at::set_num_threads(1);
  Model model(options.layers, options.width);
  return time_steps(job, model, options);
}

constexpr double mib = 1 << 20;

void run(const Options& options) {
  Figures figures;
  const bool threads = !launched() && options.ranks > 0;
  int ranks = std::max(1, options.ranks), rank = 0;
  double baseline = 0;
  if (threads) {
    baseline = static_cast<double>(bench::peak_rss_bytes()) / mib;
    run_ranks(options.ranks, [&](Job& job) {
      Figures mine = time_sharded(job, options);
      if (job.rank() == 0) figures = std::move(mine);
    });
  } else {
    const Job job = join({.transport = options.transport});
    baseline = static_cast<double>(bench::peak_rss_bytes()) / mib;
    figures = launched() ? time_sharded(job, options) : time_local(job, options);
    ranks = job.size();
    rank = job.rank();
  }
  if (rank != 0) return;
  std::cout << nlohmann::json{{"ranks", ranks},
                              {"mode", threads      ? "threads"
                                       : launched() ? "fsdp"
                                                    : "local"},
                              {"fused", options.fused},
                              {"step_ms_median", figures.wall_ms[figures.wall_ms.size() / 2]},
                              {"step_ms_min", figures.wall_ms.front()},
                              {"cpu_ms", figures.cpu_ms},
                              {"page_faults", figures.page_faults},
                              {"baseline_rss_MiB", baseline},
                              {"peak_rss_MiB", static_cast<double>(bench::peak_rss_bytes()) / mib}}
            << std::endl;
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  CLI::App app("Times training steps.");
  app.add_option("--layers", options.layers);
  app.add_option("--width", options.width);
  app.add_option("--seq", options.seq);
  app.add_option("--batch", options.batch);
  app.add_option("--steps", options.steps);
  app.add_option("--ranks", options.ranks, "threads, without a launcher");
  app.add_flag("--fused", options.fused, "AdamW by ATen's fused kernel");
  const std::map<std::string, Transport> transports = {
      {"automatic", Transport::automatic}, {"gloo", Transport::gloo}, {"shared_memory", Transport::shared_memory}};
  app.add_option("--transport", options.transport)->transform(CLI::CheckedTransformer(transports));
  const std::map<std::string, Strategy> strategies = {
      {"full_shard", Strategy::full_shard}, {"shard_grad_op", Strategy::shard_grad_op}, {"no_shard", Strategy::no_shard}};
  app.add_option("--strategy", options.strategy)->transform(CLI::CheckedTransformer(strategies));
  CLI11_PARSE(app, argc, argv);
  return bench::run_program("step_bench", [&] { run(options); });
}
