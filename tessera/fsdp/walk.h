// tessera/fsdp/walk.h: every module below one, by every path that leads to it, in stock's order; wrappers add no names.
#pragma once

#include <functional>
#include <string>

namespace torch::nn {
class Module;
}

namespace tessera {

class ModuleUnit;
class Wrapper;

struct WalkStep {
  torch::nn::Module& module;
  std::string path;      // "h.0"; "" for the module that the walk starts at
  Wrapper* wrapper;      // the module itself where it is a wrapper; what it wraps comes next, under the same path
  ModuleUnit* unit;      // that holds the module's parameters; null outside all units
};

void walk(torch::nn::Module& module, const std::function<void(const WalkStep&)>& visit);

// "h.0" and "weight" → "h.0.weight"; either may be empty.
std::string dotted(const std::string& path, const std::string& name);

}  // namespace tessera
