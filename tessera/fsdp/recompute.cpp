#include "tessera/fsdp/recompute.h"

#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/functions/utils.h>
#include <torch/csrc/autograd/node.h>
#include <torch/csrc/autograd/saved_variable.h>
#include <torch/csrc/autograd/variable.h>

#include <algorithm>

#include "tessera/base/error.h"
#include "tessera/fsdp/autograd_node.h"
#include "tessera/fsdp/default_generator.h"

namespace tessera {
namespace {

namespace autograd = torch::autograd;

int64_t version_of(const at::Tensor& tensor) { return tensor.defined() && !tensor.is_inference() ? tensor._version() : 0; }

void set(const RandomStates& states) {
  for (const auto& [device, state] : states) set_default_random_state(state, device);
}

// While it lives the random states are others.
class RandomStatesOf {
 public:
  explicit RandomStatesOf(const RandomStates& states) {
    for (const auto& [device, state] : states) before_.emplace_back(device, default_random_state(device));
    set(states);
  }
  ~RandomStatesOf() { set(before_); }
  RandomStatesOf(const RandomStatesOf&) = delete;
  RandomStatesOf& operator=(const RandomStatesOf&) = delete;

 private:
  RandomStates before_;
};

class ForwardAndBackward final : public autograd::Node {
 public:
  ForwardAndBackward(autograd::edge_list&& next, const std::vector<at::Tensor>& inputs, RandomStates random_states, ForwardAgain again)
      : Node(std::move(next)), random_states_(std::move(random_states)), again_(std::move(again)) {
    for (const at::Tensor& input : inputs) {
      inputs_.emplace_back(input, /*is_output=*/false);
      wanted_.push_back(input.defined() && input.requires_grad());
    }
  }
  std::string name() const override { return "tessera::ForwardAndBackward"; }

  autograd::variable_list apply(autograd::variable_list&& gradients) override {
    std::vector<at::Tensor> inputs;
    for (size_t i = 0; i < inputs_.size(); ++i) {
      at::Tensor input = inputs_[i].unpack();
      if (input.defined()) input = input.detach().set_requires_grad(wanted_[i]);
      inputs.push_back(std::move(input));
    }
    const PartOfBackward part;
    std::vector<at::Tensor> outputs;
    {
      const RandomStatesOf as_before(random_states_);
      const at::AutoGradMode with_graph(true);
      outputs = again_(inputs);
    }
    if (outputs.size() != gradients.size()) {
      throw Error({.code = Code::mismatch,
                   .what = "forward gave " + std::to_string(gradients.size()) + " tensors, and " + std::to_string(outputs.size()) +
                           " when it ran again in backward"});
    }
    autograd::variable_list roots, of_roots;
    for (size_t i = 0; i < outputs.size(); ++i) {
      if (!gradients[i].defined() || !outputs[i].defined() || !outputs[i].requires_grad()) continue;
      roots.push_back(outputs[i]);
      of_roots.push_back(gradients[i]);
    }
    if (!roots.empty()) autograd::backward(roots, of_roots);
    autograd::variable_list to_inputs;
    for (size_t i = 0; i < inputs.size(); ++i) to_inputs.push_back(wanted_[i] ? inputs[i].grad() : at::Tensor());
    return to_inputs;
  }

  void release_variables() override {
    for (autograd::SavedVariable& input : inputs_) input.reset_data();
  }

 private:
  std::vector<autograd::SavedVariable> inputs_;
  std::vector<bool> wanted_;
  RandomStates random_states_;
  ForwardAgain again_;
};

}  // namespace

Recomputation::Recomputation(const std::vector<at::Tensor>& inputs) {
  const auto keep = [&](at::Device device) {
    const bool kept = std::ranges::any_of(random_states_, [&](const auto& state) { return state.first == device; });
    if (!kept) random_states_.emplace_back(device, default_random_state(device));
  };
  keep(at::kCPU);
  for (const at::Tensor& input : inputs) {
    versions_.push_back(version_of(input));
    if (input.defined() && !input.is_cpu()) keep(input.device());
  }
}

void Recomputation::check_unchanged(const std::vector<at::Tensor>& inputs, const std::vector<at::Tensor>& left) const {
  const auto is_same = [](const at::Tensor& a, const at::Tensor& b) { return a.is_same(b); };
  if (!std::ranges::equal(inputs, left, is_same)) {
    throw Error({.code = Code::invalid_argument,
                 .what = "a forward that is to run again in backward has put other tensors into its argument",
                 .hint = "the argument is a copy, which the caller does not see: let it return them"});
  }
  if (!at::GradMode::is_enabled()) return;
  for (size_t i = 0; i < inputs.size(); ++i) {
    if (version_of(inputs[i]) == versions_[i]) continue;
    throw Error({.code = Code::invalid_argument,
                 .what = "a forward that is to run again in backward has changed its argument in place",
                 .hint = "it would change it twice: let it work on a copy"});
  }
}

std::vector<at::Tensor> Recomputation::record(const std::vector<at::Tensor>& inputs, const std::vector<at::Tensor>& outputs,
                                              ForwardAgain again) {
  if (!at::GradMode::is_enabled()) return outputs;
  autograd::edge_list next;
  for (const at::Tensor& input : inputs)
    next.push_back(input.defined() && input.requires_grad() ? autograd::impl::gradient_edge(input) : autograd::Edge());
  const auto node = c10::make_intrusive<ForwardAndBackward>(std::move(next), inputs, random_states_, std::move(again));
  std::vector<at::Tensor> recorded;
  for (const at::Tensor& output : outputs) {
    if (!output.defined() || !torch::autograd::isDifferentiableType(output.scalar_type())) {
      recorded.push_back(output);
      node->add_input_metadata(autograd::Node::undefined_input());
      continue;
    }
    // Another tensor with the same memory: an output may be an input, which has a history of its own.
    recorded.push_back(output.detach());
    autograd::set_history(recorded.back(), node);
  }
  return recorded;
}

void refuse_to_recompute() {
  throw Error(
      {.code = Code::unsupported,
       .what = "recompute on a module whose forward cannot be run again",
       .hint = "its arguments must be values that can be copied, its result a value, and tensors be seen in them (visit_tensors.h)"});
}

}  // namespace tessera
