// tessera/fsdp/wrapper.h: what every wrapped module is, whatever its type: a module around a module, with or without a unit.
#pragma once

#include <torch/nn/module.h>

#include <memory>
#include <optional>
#include <vector>

#include "tessera/collectives/job.h"
#include "tessera/fsdp/strategy.h"

namespace tessera {

class ModuleUnit;
class FsdpContext;

// What wrap() goes by on this thread.
struct WrapScope {
  std::shared_ptr<FsdpContext> context;
  WrapOptions options;
  WrapScope* outer = nullptr;
};
// The innermost one on this thread; null outside any.
const WrapScope* open_scope();

class Wrapper : public torch::nn::Module {
 public:
  // Opens a unit when a scope is open and, unless `is_root`, the module has enough parameters of its own.
  Wrapper(std::shared_ptr<torch::nn::Module> module, const WrapOverrides& overrides, bool is_root);
  ~Wrapper() override;

  torch::nn::Module& wrapped() const { return *wrapped_; }
  // Null where wrapping is transparent.
  const std::shared_ptr<ModuleUnit>& unit() const { return unit_; }

  // A unit's tensors cannot change dtype or device: throws Error(unsupported). Transparent wrapping passes through.
  void to(torch::Device device, torch::Dtype dtype, bool non_blocking = false) override;
  void to(torch::Dtype dtype, bool non_blocking = false) override;
  void to(torch::Device device, bool non_blocking = false) override;
  std::shared_ptr<torch::nn::Module> clone(const std::optional<torch::Device>& device = std::nullopt) const override;

  // Default arguments of the wrapped module, so that Sequential and AnyModule honour them.
  bool _forward_has_default_args() override;
  unsigned int _forward_num_required_args() override;
  std::vector<torch::nn::AnyValue> _forward_populate_default_args(std::vector<torch::nn::AnyValue>&& arguments) override;

 private:
  void refuse_on_unit(const char* what) const;

  std::shared_ptr<torch::nn::Module> wrapped_;
  std::shared_ptr<ModuleUnit> unit_;
};

// One forward of a wrapped module: gathers its unit, and frees it again when forward is over, also by a throw.
class UnitCall {
 public:
  explicit UnitCall(Wrapper& wrapper);
  ~UnitCall();
  UnitCall(const UnitCall&) = delete;
  UnitCall& operator=(const UnitCall&) = delete;
  // What floating-point tensors that forward is given, and that it returns, are cast to; nothing where they are left as they are.
  std::optional<at::ScalarType> input_dtype() const;
  std::optional<at::ScalarType> output_dtype() const;
  // True where forward is to be run again in backward, rather than keep what it makes.
  bool recomputes() const;
  // Sees to it that the unit is whole when backward comes to `output`.
  void prepare_backward(const at::Tensor& output);
  void finish();

 private:
  std::shared_ptr<ModuleUnit> unit_;
  bool finished_ = false;
};

}  // namespace tessera
