// tessera/fsdp/summon.h: whole parameters outside forward and backward, to read or to change them.
//   { SummonFullParams whole(model); torch::nn::init::zeros_(model->module().head->weight); }
// While it lives every unit below the module is whole, so the memory for all of them is needed; forward throws an Error.
// With `writeback` each rank keeps its range of what its own parameters then hold: ranks make the same changes.
// Parameters have the dtype that the model was built with, whatever it computes in. What lies outside units (ignore.h) is as it is without,
// on every rank: there is nothing to gather, and what is written to it stays.
// Until it ends, no other is opened, nothing is unsharded or resharded by hand, and no state of kind full is made.
// Collective  Every rank opens it. Closing it needs no other rank.
#pragma once

#include <memory>
#include <utility>
#include <vector>

#include "tessera/fsdp/module_ref.h"

namespace tessera {

class FlatUnit;
class FsdpContext;

struct SummonOptions {
  bool writeback = true;
  bool recurse = true;  // false: the unit of the module itself only
  bool rank0_only = false;  // other ranks help to gather and have nothing then; excludes writeback
  // What is on a GPU is shown in host memory, as much as the model: the GPU needs room for one unit at a time, beside what units that are
  // never sharded have there anyway.
  bool offload_to_cpu = false;
  bool with_grads = false;  // parameters of units have their gradients too, written back likewise
};

class SummonFullParams {
 public:
  explicit SummonFullParams(ModuleRef module, const SummonOptions& options = {});
  ~SummonFullParams();
  SummonFullParams(const SummonFullParams&) = delete;
  SummonFullParams& operator=(const SummonFullParams&) = delete;

 private:
  void close();

  SummonOptions options_;
  std::vector<std::shared_ptr<FlatUnit>> units_;
  std::vector<std::shared_ptr<FsdpContext>> contexts_;
};

template <class Body>
decltype(auto) summon_full_params(ModuleRef module, const SummonOptions& options, Body&& body) {
  const SummonFullParams whole(module, options);
  return std::forward<Body>(body)();
}

}  // namespace tessera
