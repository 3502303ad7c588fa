// tessera/fsdp/autograd_node.h: the few places where we reach into LibTorch's autograd. All of them stand here and in recompute.cpp,
// because PyTorch does not promise to keep them: they were checked against torch 2.13.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

namespace tessera {

// Takes a unit's gradients, one for each of its parameters; undefined for those that were not used.
class GradientReceiver {
 public:
  virtual ~GradientReceiver() = default;
  virtual void receive(const std::vector<at::Tensor>& gradients) = 0;
};

// An autograd node whose outputs are parameters. Autograd runs it once a backward, when all uses of all of them are done:
// shared weights, repeated forwards and unused parameters need no counting. Once attached, the parameters stay so, since
// graphs that are still to run backward keep them as they were: to LibTorch they are no leaves any more.
class ParameterNode {
 public:
  // The receiver is not kept alive by graphs; once it is gone, gradients are dropped.
  ParameterNode(std::vector<at::Tensor> parameters, std::weak_ptr<GradientReceiver> receiver);
  ~ParameterNode();
  // What is computed from the parameters from now on sends its gradients here. No effect where that is so already.
  void attach();

 private:
  struct Handle;
  std::unique_ptr<Handle> handle_;
  std::vector<at::Tensor> parameters_;
};

// To autograd, a parameter that was made as a view, as by t(), is no view any more: else it would keep what it was a view of in memory,
// and a change in place, which LibTorch takes for one of the base, would not let it be attached again.
void forget_base(const at::Tensor& parameter);

// The number of the backward that runs on this thread, of the outermost where one runs inside another; -1 outside any.
int64_t current_backward();
// True inside a backward that is a part of another (PartOfBackward).
bool inside_part_of_backward();
// While it lives, a backward that begins on this thread is a part of the one that runs.
class PartOfBackward {
 public:
  PartOfBackward();
  ~PartOfBackward();
  PartOfBackward(const PartOfBackward&) = delete;
  PartOfBackward& operator=(const PartOfBackward&) = delete;

 private:
  int64_t before_;
};
// Runs `work` when the backward that runs on this thread is over, before it returns to its caller.
void at_end_of_backward(std::function<void()> work);

}  // namespace tessera
