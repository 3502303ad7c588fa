// examples/gpt/options.h: what gpt_train can be asked for.
// Errors      What makes no sense is said on standard error, and is exit code 2: also options that would do nothing beside others.
#pragma once

#include <optional>
#include <string>

#include "examples/gpt/gpt.h"
#include "tessera/base/background.h"
#include "tessera/base/io_options.h"
#include "tessera/collectives/job.h"
#include "tessera/fsdp/fsdp.h"
#include "tessera/libtorch/model_state.h"

enum class OptimizerName { adamw, adam, sgd, adagrad };
enum class ScheduleName { constant, cosine, linear, step };

struct Options {
  int ranks = 0;  // 0: as many as the launcher started, or one
  tessera::Transport transport = tessera::Transport::automatic;
  bool on_gpus = false;  // each rank on its own

  GptConfig gpt;
  std::string text;
  uint64_t seed = 0;
  int64_t steps = 40;
  int64_t batch = 8;
  int accumulate = 1;  // micro-batches of a rank's share of a batch

  tessera::FsdpOptions fsdp;

  OptimizerName optimizer = OptimizerName::adamw;
  bool fused = false;
  double lr = 3e-4;
  double clip = 0;  // 0: gradients are left as they are
  ScheduleName schedule = ScheduleName::constant;
  int64_t warmup = 0;
  int64_t step_size = 0;  // 0: a third of the steps

  std::string dir;
  int64_t save_every = 0;
  bool resume = false;
  tessera::Kind kind = tessera::Kind::sharded;
  int keep_last = 0;
  bool async = false;
  int64_t staging_bytes = 0;
  int64_t grace_s = 20;
  tessera::IoOptions io;
  tessera::Background background;

  std::string curve;
  std::string trace;
  bool units = false;
  bool memory = false;
};

// Fills in `options`; or the exit code, where there is nothing to train.
std::optional<int> parse(int argc, char** argv, Options& options);
