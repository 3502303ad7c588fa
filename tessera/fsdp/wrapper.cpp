#include "tessera/fsdp/wrapper.h"

#include <ATen/core/grad_mode.h>

#include <string>

#include "tessera/base/error.h"
#include "tessera/fsdp/context.h"
#include "tessera/fsdp/module_unit.h"
#include "tessera/fsdp/wrap.h"

namespace tessera {
namespace {

thread_local WrapScope* current_scope = nullptr;

// A module's defaults for forward are protected in LibTorch.
struct DefaultsOf : torch::nn::Module {
  static bool has(torch::nn::Module& module) { return (module.*(&DefaultsOf::_forward_has_default_args))(); }
  static unsigned int required(torch::nn::Module& module) { return (module.*(&DefaultsOf::_forward_num_required_args))(); }
  static std::vector<torch::nn::AnyValue> filled(torch::nn::Module& module, std::vector<torch::nn::AnyValue>&& arguments) {
    return (module.*(&DefaultsOf::_forward_populate_default_args))(std::move(arguments));
  }
};

}  // namespace

const WrapScope* open_scope() { return current_scope; }

EnableWrap::EnableWrap(const Job& job, const WrapOptions& options) : EnableWrap(std::make_shared<FsdpContext>(job, options), options) {}

EnableWrap::EnableWrap(std::shared_ptr<FsdpContext> context, const WrapOptions& options)
    : scope_(std::make_unique<WrapScope>(WrapScope{std::move(context), options, current_scope})) {
  current_scope = scope_.get();
}

EnableWrap::EnableWrap(const WrapOverrides& changes) {
  if (current_scope == nullptr) {
    throw Error({.code = Code::invalid_argument,
                 .what = "EnableWrap with changes only, outside any scope",
                 .hint = "the outermost scope takes a Job"});
  }
  scope_ = std::make_unique<WrapScope>(WrapScope{current_scope->context, changes.over(current_scope->options), current_scope});
  current_scope = scope_.get();
}

EnableWrap::~EnableWrap() { current_scope = scope_->outer; }

Wrapper::Wrapper(std::shared_ptr<torch::nn::Module> module, const WrapOverrides& overrides, bool is_root) : wrapped_(std::move(module)) {
  if (!wrapped_) throw Error({.code = Code::invalid_argument, .what = "wrap() was given an empty holder"});
  if (current_scope != nullptr) {
    WrapOptions options = overrides.over(current_scope->options);
    // The scope's is that of the root's results; inside, units hand each other what they compute in.
    if (!is_root && !overrides.mixed_precision) options.mixed_precision.output_dtype.reset();
    unit_ = ModuleUnit::take(current_scope->context, std::move(options), overrides.name, *wrapped_, is_root);
  }
  if (unit_) {
    for (const auto& flat : unit_->units()) register_parameter(flat->flat_name(), flat->shard(), flat->trainable());
  }
  register_module("_fsdp_wrapped_module", wrapped_);
}

Wrapper::~Wrapper() = default;

void Wrapper::refuse_on_unit(const char* what) const {
  if (!unit_) return;
  throw Error({.code = Code::unsupported, .what = std::string(what) + " on a module that is sharded", .hint = "do it before wrapping"});
}

void Wrapper::to(torch::Device device, torch::Dtype dtype, bool non_blocking) {
  refuse_on_unit("to()");
  Module::to(device, dtype, non_blocking);
}

void Wrapper::to(torch::Dtype dtype, bool non_blocking) {
  refuse_on_unit("to()");
  Module::to(dtype, non_blocking);
}

void Wrapper::to(torch::Device device, bool non_blocking) {
  refuse_on_unit("to()");
  Module::to(device, non_blocking);
}

std::shared_ptr<torch::nn::Module> Wrapper::clone(const std::optional<torch::Device>&) const {
  throw Error({.code = Code::unsupported, .what = "clone() on a wrapped module", .hint = "build another model"});
}

bool Wrapper::_forward_has_default_args() { return DefaultsOf::has(*wrapped_); }
unsigned int Wrapper::_forward_num_required_args() { return DefaultsOf::required(*wrapped_); }
std::vector<torch::nn::AnyValue> Wrapper::_forward_populate_default_args(std::vector<torch::nn::AnyValue>&& arguments) {
  return DefaultsOf::filled(*wrapped_, std::move(arguments));
}

UnitCall::UnitCall(Wrapper& wrapper) : unit_(wrapper.unit()) {
  if (unit_) unit_->context().enter_forward(*unit_);
}

UnitCall::~UnitCall() {
  // Forward threw: its error goes on; whatever fails here is a consequence of it.
  if (unit_ && !finished_) capture([&] { unit_->context().leave_forward(*unit_, /*failed=*/true); });
}

std::optional<at::ScalarType> UnitCall::input_dtype() const { return unit_ ? unit_->input_dtype() : std::nullopt; }
std::optional<at::ScalarType> UnitCall::output_dtype() const { return unit_ ? unit_->output_dtype() : std::nullopt; }

bool UnitCall::recomputes() const { return unit_ && !unit_->is_root() && unit_->options().recompute && at::GradMode::is_enabled(); }

void UnitCall::prepare_backward(const at::Tensor& output) {
  if (!unit_ || !output.defined() || !output.requires_grad()) return;
  output.register_hook([unit = std::weak_ptr<ModuleUnit>(unit_)](const at::Tensor&) {
    if (const auto alive = unit.lock()) alive->context().enter_backward(*alive);
  });
}

void UnitCall::finish() {
  finished_ = true;
  if (unit_) unit_->context().leave_forward(*unit_, /*failed=*/false);
}

}  // namespace tessera
