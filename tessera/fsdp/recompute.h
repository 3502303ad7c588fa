// tessera/fsdp/recompute.h: activation checkpointing: forward keeps its inputs only, and runs again when backward comes by.
//   at::Tensor y = recompute([&](const at::Tensor& x) { return block(x); }, x);
// `.recompute = true` in the options of fsdp() or wrap() does this to the forward of every unit below the root.
// Promises    The gradients of the same forward without it, bit for bit: LibTorch's random state is put back for the second run, and after
//             it. (Ranks that are threads share that state: there a dropout is repeated only if no other rank draws in between.)
// Arguments   What forward() is given is copied and kept, tensors as autograd keeps them, in containers too: one that is changed in place
//             later is found out. Each must be what visit_tensors.h takes: numbers, strings, tensors, containers of those (a map's keys
//             too), types of yours with that function. Anything else may be gone or changed by then, and is refused: pointers, string
//             literals and string_view, closures, views but at::ArrayRef given to a unit, which is copied; and const tensors in a
//             container. What `forward` captures gets no gradient but as leaves.
// Results     Every floating-point tensor of the result takes part in backward, also one that does not depend on anything.
// Pieces      A unit's own forward may hold several recomputations by hand: the unit then stays whole until its backward has ended.
// Engine      Backward runs inside backward: torch::autograd::grad() through a recomputation adds to the gradients of its parameters too.
// Errors      What `forward` throws; Error(invalid_argument) where it changes an argument, a tensor in place or what is in a container, or
//             assigns to a tensor that it takes by reference: forward's argument is a copy, and the caller would not see it;
//             Error(mismatch) where the second run gives another number of tensors.
#pragma once

#include <ATen/core/grad_mode.h>

#include <concepts>
#include <functional>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include "tessera/fsdp/owned_tensors.h"
#include "tessera/fsdp/visit_tensors.h"

namespace tessera {

// An argument that can be kept for a second run: one of which all parts are known, its own, and can be copied.
template <class T>
concept can_keep = has_tensors_to_visit<T> && owns_tensors<T> && is_copyable<T> &&
                   KeysIn<T>::all([]<class K>(std::type_identity<K>) { return has_tensors_to_visit<K> && owns_tensors<K>; });

// A forward that can be kept for a second run.
template <class Forward, class... A>
concept can_recompute = (can_keep<std::decay_t<A>> && ...) && std::invocable<const Forward&, std::decay_t<A>&...> &&
                        std::is_object_v<std::invoke_result_t<const Forward&, std::decay_t<A>&...>> &&
                        has_tensors_to_visit<std::invoke_result_t<const Forward&, std::decay_t<A>&...>> &&
                        owns_tensors<std::invoke_result_t<const Forward&, std::decay_t<A>&...>>;

using ForwardAgain = std::function<std::vector<at::Tensor>(const std::vector<at::Tensor>& inputs)>;

// Of the default generators of the devices that a forward draws from: the CPU's, and those of its arguments.
using RandomStates = std::vector<std::pair<at::Device, at::Tensor>>;

// One recomputation, whatever the types: made before the first run, told of its outputs after it.
class Recomputation {
 public:
  explicit Recomputation(const std::vector<at::Tensor>& inputs);
  // Throws Error(invalid_argument) where the first run changed its arguments: `inputs` are the tensors that it was given, `left` what its
  // arguments hold now.
  void check_unchanged(const std::vector<at::Tensor>& inputs, const std::vector<at::Tensor>& left) const;
  // Gives each of `outputs`, which the first run made without a graph, another that has one. They come in the order of the second run's.
  std::vector<at::Tensor> record(const std::vector<at::Tensor>& inputs, const std::vector<at::Tensor>& outputs, ForwardAgain again);

 private:
  RandomStates random_states_;  // before the first run
  std::vector<int64_t> versions_;  // of the inputs, likewise
};

// Throws Error(unsupported).
[[noreturn]] void refuse_to_recompute();

template <class Forward, class... A>
  requires can_recompute<Forward, A...>
auto recompute(const Forward& forward, A&&... arguments) {
  using Arguments = std::tuple<std::decay_t<A>...>;
  const auto visit_all = [](Arguments& tuple, auto visit) {
    std::apply([&](auto&... value) { (visit_own_tensors(value, visit), ...); }, tuple);
  };
  Arguments given(arguments...);
  Arguments kept = given;
  std::vector<at::Tensor> inputs;  // taken out of what is kept: autograd keeps them
  visit_all(kept, [&](at::Tensor& tensor) { inputs.push_back(std::exchange(tensor, at::Tensor())); });
  const auto run = [forward](Arguments& with) { return std::apply([&](auto&... value) { return forward(value...); }, with); };
  Recomputation recomputation(inputs);
  auto result = [&] {
    const at::NoGradGuard no_grad;
    return run(given);
  }();
  std::vector<at::Tensor> left;
  visit_all(given, [&](at::Tensor& tensor) { left.push_back(tensor); });
  recomputation.check_unchanged(inputs, left);
  std::vector<at::Tensor> outputs;
  visit_own_tensors(result, [&](at::Tensor& tensor) { outputs.push_back(tensor); });
  outputs = recomputation.record(inputs, outputs, [run, kept, visit_all](const std::vector<at::Tensor>& with) {
    Arguments again = kept;
    auto next = with.begin();
    visit_all(again, [&](at::Tensor& tensor) { tensor = *next++; });
    auto repeated = run(again);
    std::vector<at::Tensor> made;
    visit_own_tensors(repeated, [&](at::Tensor& tensor) { made.push_back(tensor); });
    return made;
  });
  auto next = outputs.begin();
  visit_own_tensors(result, [&](at::Tensor& tensor) { tensor = *next++; });
  return result;
}

}  // namespace tessera
