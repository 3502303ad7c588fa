#include "examples/gpt/options.h"

#include <ATen/DeviceAccelerator.h>

#include <CLI/CLI.hpp>
#include <map>
#include <set>

namespace {

using tessera::Strategy;

// Checks that say what is wrong in fewer words than CLI11's.
CLI::Validator above(double least, bool or_equal) {
  const std::string what = (or_equal ? ">=" : ">") + std::to_string(static_cast<int>(least));
  return CLI::Validator(
      [=](const std::string& text) {
        double value = 0;
        const bool good = CLI::detail::lexical_cast(text, value) && (value > least || (or_equal && value == least));
        return good ? "" : text + " is not " + what;
      },
      what);
}
const CLI::Validator positive = above(0, false);
const CLI::Validator not_negative = above(0, true);

// An option that is one of some words.
template <class T>
CLI::Option* add_choice(CLI::App& app, const std::string& name, T& chosen, const std::map<std::string, T>& words, const std::string& help,
                        const std::string& otherwise) {
  std::set<std::string> known;
  for (const auto& [word, value] : words) known.insert(word);
  return app.add_option_function<std::string>(
                name, [&chosen, words](const std::string& word) { chosen = words.at(word); }, help)
      ->check(CLI::IsMember(known))
      ->default_str(otherwise);
}

void add_ranks(CLI::App& app, Options& options) {
  const std::map<std::string, tessera::Transport> transports = {{"automatic", tessera::Transport::automatic},
                                                                {"gloo", tessera::Transport::gloo},
                                                                {"shared_memory", tessera::Transport::shared_memory}};
  app.add_option("--ranks", options.ranks, "so many threads of this process; under a launcher, so many it must have started")
      ->check(CLI::Range(1, 1024));
  add_choice(app, "--transport", options.transport, transports,
             "how ranks that are processes hand each other tensors; TESSERA_TRANSPORT overrules it", "automatic");
  add_choice(app, "--device", options.on_gpus, std::map<std::string, bool>{{"cpu", false}, {"gpu", true}},
             "where ranks compute; gpu: each on the one that its number on its host says, or on one that they share", "cpu");
}

void add_model(CLI::App& app, Options& options) {
  app.add_option("--layers", options.gpt.layers, "blocks of the model")->check(positive)->capture_default_str();
  app.add_option("--width", options.gpt.width, "width of the model, a multiple of 32")->check(positive)->capture_default_str();
  app.add_option("--seq", options.gpt.seq, "tokens of a sample")->check(positive)->capture_default_str();
  app.add_option("--text", options.text, "train on this file; the licence texts of the system by default");
  app.add_option("--seed", options.seed, "of the weights and of the order of samples")->capture_default_str();
  app.add_option("--steps", options.steps, "train until this step")->check(positive)->capture_default_str();
  app.add_option("--batch", options.batch, "samples of a step, over all ranks")->check(positive)->capture_default_str();
  app.add_option("--accumulate", options.accumulate,
                 "micro-batches that a rank cuts its samples into; gradients are reduced after the last")
      ->check(positive)
      ->capture_default_str();
}

void add_sharding(CLI::App& app, Options& options) {
  std::map<std::string, Strategy> strategies;
  for (const Strategy strategy :
       {Strategy::full_shard, Strategy::shard_grad_op, Strategy::no_shard, Strategy::hybrid_shard, Strategy::hybrid_shard_grad_op}) {
    strategies[tessera::name(strategy)] = strategy;
  }
  const std::map<std::string, tessera::MixedPrecision> precisions = {
      {"float32", {}}, {"bfloat16", {.param_dtype = at::kBFloat16, .reduce_dtype = at::kFloat, .output_dtype = at::kFloat}}};
  add_choice(app, "--strategy", options.fsdp.strategy, strategies, "how units are spread over the ranks", "full_shard");
  app.add_option("--shards", options.fsdp.shards, "hybrid strategies: neighbours that hold a replica together, a divisor of the ranks")
      ->check(positive);
  app.add_option("--min-numel", options.fsdp.min_numel, "blocks with fewer elements stay part of the root's unit")
      ->check(not_negative)
      ->capture_default_str();
  app.add_option("--prefetch", options.fsdp.prefetch, "units gathered ahead of the one that computes")
      ->check(not_negative)
      ->capture_default_str();
  app.add_flag("--recompute", options.fsdp.recompute, "keep the inputs of blocks only, and run their forward again in backward");
  add_choice(app, "--param-dtype", options.fsdp.mixed_precision, precisions,
             "what is computed in; gradients are reduced, and parameters kept, in float32", "float32");
  app.add_flag("--units", options.units, "list the units before training");
  app.add_flag("--memory", options.memory, "say at the end what the units took on rank 0");
}

void add_optimizer(CLI::App& app, Options& options) {
  const std::map<std::string, OptimizerName> optimizers = {
      {"adamw", OptimizerName::adamw}, {"adam", OptimizerName::adam}, {"sgd", OptimizerName::sgd}, {"adagrad", OptimizerName::adagrad}};
  const std::map<std::string, ScheduleName> schedules = {{"constant", ScheduleName::constant},
                                                         {"cosine", ScheduleName::cosine},
                                                         {"linear", ScheduleName::linear},
                                                         {"step", ScheduleName::step}};
  add_choice(app, "--optimizer", options.optimizer, optimizers, "adamw (matrices decay by 0.1), adam, sgd (momentum 0.9) or adagrad",
             "adamw");
  app.add_flag("--fused", options.fused, "the optimizer by ATen's fused kernels: within rounding of the others");
  app.add_option("--lr", options.lr, "learning rate, after the warm-up")->check(positive)->capture_default_str();
  app.add_option("--clip", options.clip, "scale gradients to a norm of at most this")->check(positive);
  add_choice(app, "--schedule", options.schedule, schedules,
             "the rate after the warm-up: constant, cosine or linear (down to 0 at --steps) or step (a tenth every --step-size)",
             "constant");
  app.add_option("--warmup", options.warmup, "steps in which the rate rises from a hundredth")->check(not_negative)->capture_default_str();
  app.add_option("--step-size", options.step_size, "--schedule step: steps of one rate; a third of those after the warm-up by default")
      ->check(positive);
}

void add_saving(CLI::App& app, Options& options) {
  const std::map<std::string, tessera::Kind> kinds = {
      {"full", tessera::Kind::full}, {"sharded", tessera::Kind::sharded}, {"local", tessera::Kind::local}};
  auto* dir = app.add_option("--dir", options.dir, "root of the steps that are saved");
  app.add_option("--save-every", options.save_every, "save after every so many steps; 0 saves none")->check(not_negative)->needs(dir);
  app.add_flag("--resume", options.resume, "go on from the latest step in --dir")->needs(dir);
  add_choice(app, "--kind", options.kind, kinds, "how parameters are saved", "sharded")->needs(dir);
  app.add_option("--keep-last", options.keep_last, "keep so many steps; 0 keeps all")
      ->check(not_negative)
      ->capture_default_str()
      ->needs(dir);
  auto* async = app.add_flag("--async", options.async, "go on training while a step is saved")->needs(dir);
  app.add_option("--staging-bytes", options.staging_bytes, "--async: memory for copies of the state on each rank; 0 takes what it takes")
      ->check(not_negative)
      ->transform(CLI::AsSizeValue(false))
      ->capture_default_str()
      ->needs(async);
  app.add_option("--grace", options.grace_s, "seconds from SIGTERM until the save must be over, or is given up")
      ->check(not_negative)
      ->capture_default_str()
      ->needs(dir);
  app.add_option("--io-threads", options.io.threads, "threads that write or read a rank's file; 0 chooses")
      ->check(CLI::Range(0, 64))
      ->needs(dir);
  app.add_option("--io-rate", options.io.most_bytes_per_second, "most bytes a second that a rank writes; 0: no limit")
      ->check(not_negative)
      ->transform(CLI::AsSizeValue(false))
      ->needs(dir);
  app.add_option("--nice", options.background.niceness, "--async: how far its threads stand back, 0 to 19")
      ->check(CLI::Range(0, 19))
      ->needs(async);
  app.add_option("--io-cpus", options.background.cpus, "--async: the only cores that its threads run on")->delimiter(',')->needs(async);
}

void add_looking(CLI::App& app, Options& options) {
  app.add_option("--curve", options.curve,
                 "draw the losses into this FILE.svg at the end, from FILE.csv, which gets a line a step; with --resume both go on");
  app.add_option("--trace", options.trace,
                 "write what every thread did to this file (with .rank<r> for each process), for Perfetto or chrome://tracing");
}

void refuse_if(bool wrong, const char* option, const std::string& why) {
  if (wrong) throw CLI::ValidationError(option, why);
}

// What no option can see by itself.
void check_together(const CLI::App& app, const Options& options) {
  const auto given = [&](const char* option) { return app.count(option) > 0; };
  const tessera::FsdpOptions& fsdp = options.fsdp;
  const int ranks = tessera::launched() ? options.ranks : std::max(1, options.ranks);  // 0: not known yet
  refuse_if(options.gpt.width % 32, "--width", "must be a multiple of 32");
  refuse_if(given("--transport") && !tessera::launched(), "--transport", "ranks that are threads need none; start processes by a launcher");
  const int gpus = at::getAccelerator() ? at::accelerator::deviceCount() : 0;
  refuse_if(options.on_gpus && gpus == 0, "--device", "this LibTorch sees no GPU");
  refuse_if(options.on_gpus && !tessera::launched() && ranks > gpus, "--device",
            "ranks that are threads need a GPU each; here are " + std::to_string(gpus));
  refuse_if(tessera::is_hybrid(fsdp.strategy) && !given("--shards"), "--strategy", "a hybrid strategy needs --shards");
  refuse_if(!tessera::is_hybrid(fsdp.strategy) && given("--shards"), "--shards", "only hybrid strategies have replicas");
  refuse_if(fsdp.shards && ranks % fsdp.shards, "--shards", "must divide the ranks, which are " + std::to_string(ranks));
  refuse_if(fsdp.strategy == Strategy::no_shard && given("--prefetch"), "--prefetch", "no_shard gathers nothing");
  refuse_if(options.warmup >= options.steps && options.warmup, "--warmup", "must be shorter than --steps");
  refuse_if(given("--step-size") && options.schedule != ScheduleName::step, "--step-size", "belongs to --schedule step");
  refuse_if(given("--curve") && !options.curve.ends_with(".svg"), "--curve", "must end in .svg");
}

}  // namespace

std::optional<int> parse(int argc, char** argv, Options& options) {
  CLI::App app("Trains a small GPT on a text, sharded over ranks. Prints one line a step.");
  add_ranks(app, options);
  add_model(app, options);
  add_sharding(app, options);
  add_optimizer(app, options);
  add_saving(app, options);
  add_looking(app, options);
  try {
    app.parse(argc, argv);
    check_together(app, options);
    options.fsdp.seed = options.seed;
    return std::nullopt;
  } catch (const CLI::ParseError& error) {
    return app.exit(error) ? 2 : 0;
  }
}
