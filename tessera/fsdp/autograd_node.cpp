#include "tessera/fsdp/autograd_node.h"

#include <torch/csrc/autograd/engine.h>
#include <torch/csrc/autograd/graph_task.h>
#include <torch/csrc/autograd/node.h>
#include <torch/csrc/autograd/variable.h>
#include <torch/version.h>

#include <limits>

static_assert(TORCH_VERSION_MAJOR == 2 && TORCH_VERSION_MINOR == 13, "check this file against another release before using it");

namespace tessera {
namespace {

namespace autograd = torch::autograd;

// As important as can be, like the nodes that fill .grad: run as soon as it is ready, so that memory is freed early.
constexpr uint64_t run_first = std::numeric_limits<uint64_t>::max();

class Unflatten final : public autograd::Node {
 public:
  explicit Unflatten(std::weak_ptr<GradientReceiver> receiver) : Node(run_first, autograd::edge_list{}), receiver_(std::move(receiver)) {}
  std::string name() const override { return "tessera::Unflatten"; }
  autograd::variable_list apply(autograd::variable_list&& gradients) override {
    if (const auto receiver = receiver_.lock()) receiver->receive(gradients);
    return {};
  }

 private:
  std::weak_ptr<GradientReceiver> receiver_;
};

}  // namespace

struct ParameterNode::Handle {
  c10::intrusive_ptr<autograd::Node> node;
};

ParameterNode::ParameterNode(std::vector<at::Tensor> parameters, std::weak_ptr<GradientReceiver> receiver)
    : handle_(std::make_unique<Handle>()), parameters_(std::move(parameters)) {
  handle_->node = c10::make_intrusive<Unflatten>(std::move(receiver));
  for (const at::Tensor& parameter : parameters_) handle_->node->add_input_metadata(parameter);
}

ParameterNode::~ParameterNode() = default;

void forget_base(const at::Tensor& parameter) {
  if (!parameter.is_view() || !parameter.is_leaf()) return;
  const bool trainable = parameter.requires_grad();
  parameter.unsafeGetTensorImpl()->set_autograd_meta(nullptr);
  parameter.set_requires_grad(trainable);
}

void ParameterNode::attach() {
  for (size_t i = 0; i < parameters_.size(); ++i) {
    if (parameters_[i].grad_fn() == handle_->node) continue;
    autograd::impl::set_gradient_edge(parameters_[i], autograd::Edge(handle_->node, static_cast<uint32_t>(i)));
  }
}

namespace {
thread_local int64_t outermost_backward = -1;
}

int64_t current_backward() { return outermost_backward != -1 ? outermost_backward : autograd::get_current_graph_task_id(); }

bool inside_part_of_backward() { return outermost_backward != -1 && autograd::get_current_graph_task_id() != outermost_backward; }

PartOfBackward::PartOfBackward() : before_(outermost_backward) { outermost_backward = current_backward(); }
PartOfBackward::~PartOfBackward() { outermost_backward = before_; }

void at_end_of_backward(std::function<void()> work) { autograd::Engine::get_default_engine().queue_callback(std::move(work)); }

}  // namespace tessera
