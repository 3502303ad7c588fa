// examples/gpt/optimizer.h: the optimizer and the learning rates that the options ask for.
#pragma once

#include <memory>

#include "examples/gpt/options.h"
#include "tessera/fsdp/lr_schedule.h"
#include "tessera/fsdp/optim.h"

std::unique_ptr<tessera::Optimizer> make_optimizer(tessera::ModuleRef model, const Options& options);
tessera::LrCurve lr_curve(const Options& options);
