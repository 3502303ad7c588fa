// tests/parity/parity_train.cpp: our half of the comparison with stock's FSDP2: trains the models of parity.py from the weights that it
// saved, and saves what becomes of them. The ranks are those of the launcher's environment, else `--ranks` threads.
//   parity_train INITIAL OUT --steps 3,20   loads INITIAL/<model>, saves OUT/<model>.<steps>, for each model
#include <ATen/Functions.h>
#include <ATen/Parallel.h>
#include <torch/nn/modules/linear.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <iostream>

#include "examples/gpt/gpt.h"
#include "tessera/checkpoint/load.h"
#include "tessera/checkpoint/save.h"
#include "tessera/fsdp/clip_grad_norm.h"
#include "tessera/fsdp/fsdp.h"
#include "tessera/fsdp/optim.h"
#include "tessera/libtorch/state.h"
#include "tests/seed/skip_model.h"

namespace {

using namespace tessera;
using torch::nn::Linear;

struct Options {
  std::string initial, out;
  std::vector<std::string> models = {"mlp", "skip", "gpt"};
  std::vector<int> steps = {3, 20};
  std::string optim = "adamw";
  double clip = 0;
  int ranks = 1;
};

// Rows and biases that no number of ranks divides.
struct MlpImpl : torch::nn::Module {
  MlpImpl()
      : in(register_module("in", wrap(Linear(10, 37)))),
        mid(register_module("mid", wrap(Linear(37, 23)))),
        out(register_module("out", Linear(23, 5))) {}
  at::Tensor forward(const at::Tensor& x) { return out(mid(in(x).tanh()).tanh()); }
  Wrapped<torch::nn::LinearImpl> in, mid;
  Linear out;
};
TORCH_MODULE(Mlp);

constexpr int64_t rows = 12;  // of the batch of all ranks together
constexpr double steep = 32;  // a loss times this has gradients that are worth clipping
const GptConfig gpt_config{.layers = 2, .width = 64, .seq = 16, .vocab = 50};

at::Tensor mine(const Job& job, const at::Tensor& batch) {
  const int64_t each = rows / job.size();
  return batch.narrow(0, job.rank() * each, each);
}

template <class M>
at::Tensor loss_of(const Job& job, M& model, int step) {
  const at::Tensor x = at::sin(at::arange(rows * 10, at::kFloat) * (1.7 + step)).view({rows, 10});
  return model(mine(job, x)).square().mean();
}
at::Tensor loss_of(const Job& job, Wrapped<GptImpl>& model, int step) {
  const int64_t each = gpt_config.seq + 1;
  const at::Tensor tokens = mine(job, (at::arange(rows * each, at::kLong) * (7 + step) % 47).view({rows, each}));
  return at::cross_entropy_loss(model(tokens.narrow(1, 0, each - 1)).flatten(0, 1), tokens.narrow(1, 1, each - 1).flatten());
}

template <class M, class O>
void train(const Job& job, const Options& options, const std::string& name, M& model, O& optim) {
  State state = tessera::state(model);
  load(job, options.initial + "/" + name, state);
  const int last = *std::ranges::max_element(options.steps);
  for (int step = 1; step <= last; ++step) {
    const at::Tensor loss = loss_of(job, model, step);
    (options.clip > 0 ? loss * steep : loss).backward();
    if (options.clip > 0) clip_grad_norm_(model, options.clip);
    optim.step();
    optim.zero_grad();
    if (std::ranges::count(options.steps, step)) save(job, options.out + "/" + name + "." + std::to_string(step), state);
  }
}

template <class M, class... Config>
void train_as_said(const Job& job, const Options& options, const std::string& name, const Config&... config) {
  auto model = fsdp(job, [&] { return M(config...); }, {.seed = 1});
  if (options.optim == "sgd") {
    SGD optim(model, {.lr = 0.05, .momentum = 0.9, .weight_decay = 0.01});
    return train(job, options, name, model, optim);
  }
  AdamW optim(model, {.lr = 1e-2, .fused = options.optim == "adamw_fused"});
  train(job, options, name, model, optim);
}

void run(const Job& job, const Options& options) {
  for (const std::string& name : options.models) {
    if (name == "mlp") train_as_said<Mlp>(job, options, name);
    else if (name == "skip") train_as_said<SkipModel>(job, options, name);
    else train_as_said<Gpt>(job, options, name, gpt_config);
  }
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  CLI::App app("Trains small models from given weights and saves them.");
  app.add_option("INITIAL", options.initial)->required();
  app.add_option("OUT", options.out)->required();
  app.add_option("--models", options.models)->delimiter(',')->check(CLI::IsMember({"mlp", "skip", "gpt"}));
  app.add_option("--steps", options.steps, "save after each of these")->delimiter(',');
  app.add_option("--optim", options.optim)->check(CLI::IsMember({"adamw", "adamw_fused", "sgd"}));
  app.add_option("--clip", options.clip, "largest norm of all gradients together; 0: none");
  app.add_option("--ranks", options.ranks, "threads, without a launcher");
  CLI11_PARSE(app, argc, argv);
  try {
    if (launched()) {
      at::set_num_threads(1);
      run(join(), options);
    } else {
      run_ranks(options.ranks, [&](Job& job) { run(job, options); });
    }
    return 0;
  } catch (...) {
    const Fault fault = fault_of(std::current_exception());
    std::cerr << "tessera: error: " + describe(fault) + "\n";
    return exit_code(fault.code);
  }
}
