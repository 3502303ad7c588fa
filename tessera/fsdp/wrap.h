// tessera/fsdp/wrap.h: a module becomes a unit of sharded training.
//   EnableWrap scope(job, {.strategy = Strategy::full_shard});
//   auto block = wrap(Block(config));                      // a Wrapped<BlockImpl>, sharded
//   { EnableWrap inner({.strategy = Strategy::no_shard}); … }  // the same job, other options
// fsdp() (fsdp.h) opens a scope and makes the model itself a unit, the root: only below a root are units gathered ahead in
// forward, and it stays whole between forward and backward.
// Inner modules are wrapped before outer ones, as constructors do by themselves; a unit holds its module's parameters
// minus those of inner units. Outside any scope wrap() is transparent: it shards nothing and adds nothing to names.
// A Wrapped<M> is a holder as Linear is: register_module, Sequential and ModuleList take it. model(x) reaches M's own
// overloads and default arguments; forward() has M's exact signature; module() is M.
// What an FSDP module cannot do: to(), clone(), new parameters after wrapping, set_data on a parameter.
// Arguments   Under mixed precision their tensors are cast, those in containers as well: unit_argument.h says which, and what forward may
//             fill.
// Outputs     Backward needs to see the tensors that forward returns, or puts into the caller's arguments: alone, in a standard container,
//             or in a type of yours with a function beside it (visit_tensors.h). What is returned by reference is somebody's own, and not
//             cast.
// Threads     Scopes belong to the thread that opened them.
#pragma once

#include <torch/nn/module.h>

#include <memory>
#include <type_traits>
#include <utility>

#include "tessera/collectives/job.h"
#include "tessera/fsdp/owned_tensors.h"
#include "tessera/fsdp/recompute.h"
#include "tessera/fsdp/strategy.h"
#include "tessera/fsdp/tensors_before.h"
#include "tessera/fsdp/unit_argument.h"
#include "tessera/fsdp/visit_tensors.h"
#include "tessera/fsdp/wrapper.h"

namespace torch::nn {
class SequentialImpl;
}

namespace tessera {

// While it lives, wrap() on this thread opens units. Scopes nest, and end in the reverse order, also when one ends by a throw.
class EnableWrap {
 public:
  // Collective where options.shards is given.
  explicit EnableWrap(const Job& job, const WrapOptions& options = {});
  // With what another scope of this job made.
  EnableWrap(std::shared_ptr<FsdpContext> context, const WrapOptions& options);
  // Inside another scope: its job and options, with changes. Throws Error(invalid_argument) where there is none.
  explicit EnableWrap(const WrapOverrides& changes);
  ~EnableWrap();
  EnableWrap(const EnableWrap&) = delete;
  EnableWrap& operator=(const EnableWrap&) = delete;

 private:
  std::unique_ptr<WrapScope> scope_;
};

template <class Body>
decltype(auto) enable_wrap(const Job& job, const WrapOptions& options, Body&& body) {
  const EnableWrap scope(job, options);
  return std::forward<Body>(body)();
}

// A Wrapper that knows its module's type.
template <class M>
class WrapperOf : public Wrapper {
 public:
  WrapperOf(std::shared_ptr<M> module, const WrapOverrides& overrides, bool is_root)
      : Wrapper(module, overrides, is_root), module_(std::move(module)) {}
  M& module() { return *module_; }
  const M& module() const { return *module_; }

  // forward(arguments…) on M, as a unit's: gathered before, freed after, backward prepared.
  template <class... A>
  decltype(auto) call(A&&... arguments) {
    if constexpr ((is_borrowed_list<std::remove_cvref_t<A>> || ...)) {
      return call(as_own_list(std::forward<A>(arguments))...);
    } else {
      return call_with(std::index_sequence_for<A...>(), std::forward<A>(arguments)...);
    }
  }

 private:
  template <size_t... i, class... A>
  decltype(auto) call_with(std::index_sequence<i...>, A&&... arguments) {
    UnitCall call(*this);
    const auto taken = call.input_dtype();
    const TensorsBefore before(Types<A...>(), arguments...);
    const auto prepare = [&](const at::Tensor& tensor) { call.prepare_backward(tensor); };
    if constexpr (std::is_void_v<decltype(module_->forward(std::forward<A>(arguments)...))>) {
      module_->forward(UnitArgument<A, is_filled<M, i, A...>()>(taken, arguments).get()...);
      before.visit_new(Types<A...>(), prepare, arguments...);
      call.finish();
    } else {
      decltype(auto) result = run(call, UnitArgument<A, is_filled<M, i, A...>()>(taken, arguments).get()...);
      using Result = decltype(result);
      static_assert(has_tensors_to_visit<Result>, "backward must see the tensors in what forward returns: visit_tensors.h says how");
      if constexpr (owns_tensors<Result> && !std::is_const_v<Result>) {
        // The result is ours: its tensors may be others.
        if (const auto given = call.output_dtype()) {
          visit_own_tensors(result, [&](at::Tensor& tensor) {
            if (needs_cast(tensor, *given)) tensor = tensor.to(*given);
          });
        }
      }
      visit_tensors(std::as_const(result), prepare);
      before.visit_new(Types<A...>(), prepare, arguments...);
      call.finish();
      if constexpr (std::is_reference_v<Result>) return static_cast<Result>(result);
      else return result;
    }
  }

  template <class... A>
  decltype(auto) run(const UnitCall& call, A&&... arguments) {
    const auto forward = [module = module_](auto&&... given) -> decltype(auto) {
      return module->forward(std::forward<decltype(given)>(given)...);
    };
    if constexpr (can_recompute<decltype(forward), A...>) {
      if (call.recomputes()) return recompute(forward, std::forward<A>(arguments)...);
    } else if (call.recomputes()) {
      refuse_to_recompute();
    }
    return forward(std::forward<A>(arguments)...);
  }

  std::shared_ptr<M> module_;
};

// forward() with M's own signature where M has one, so that Sequential and AnyModule can hold the wrapped module.
template <class M, class Signature>
class ForwardLike;
template <class M, class R, class C, class... A>
class ForwardLike<M, R (C::*)(A...)> : public WrapperOf<M> {
 public:
  using WrapperOf<M>::WrapperOf;
  R forward(A... arguments) { return this->call(std::forward<A>(arguments)...); }
};
template <class M, class R, class C, class... A>
class ForwardLike<M, R (C::*)(A...) const> : public ForwardLike<M, R (C::*)(A...)> {
  using ForwardLike<M, R (C::*)(A...)>::ForwardLike;
};
template <class M, class R, class C, class... A>
class ForwardLike<M, R (C::*)(A...) noexcept> : public ForwardLike<M, R (C::*)(A...)> {
  using ForwardLike<M, R (C::*)(A...)>::ForwardLike;  // not noexcept: a gather may fail
};
template <class M, class R, class C, class... A>
class ForwardLike<M, R (C::*)(A...) const noexcept> : public ForwardLike<M, R (C::*)(A...)> {
  using ForwardLike<M, R (C::*)(A...)>::ForwardLike;
};
// Overloaded and templated forwards: whatever M takes.
template <class M>
class ForwardLike<M, void> : public WrapperOf<M> {
 public:
  using WrapperOf<M>::WrapperOf;
  template <class... A>
  decltype(auto) forward(A&&... arguments) {
    return this->call(std::forward<A>(arguments)...);
  }
};

template <class M>
struct ForwardSignature {
  using type = void;
};
template <class M>
  requires requires { &M::forward; }
struct ForwardSignature<M> {
  using type = decltype(&M::forward);
};
// A template in LibTorch; as an element of another Sequential it takes and gives a tensor.
template <>
struct ForwardSignature<torch::nn::SequentialImpl> {
  using type = at::Tensor (torch::nn::SequentialImpl::*)(at::Tensor);
};

template <class M>
class WrappedImpl final : public ForwardLike<M, typename ForwardSignature<M>::type> {
 public:
  using ForwardLike<M, typename ForwardSignature<M>::type>::ForwardLike;
};

template <class M>
class Wrapped : public torch::nn::ModuleHolder<WrappedImpl<M>> {
 public:
  using Impl = WrappedImpl<M>;
  using Holder = torch::nn::ModuleHolder<WrappedImpl<M>>;
  // Only wrap() and fsdp() make one; a member that is filled later starts as nullptr.
  Wrapped(std::nullptr_t) : Holder(nullptr) {}
  Wrapped(std::shared_ptr<Impl> impl) : Holder(std::move(impl)) {}
  template <class... A>
  decltype(auto) operator()(A&&... arguments) {
    return this->impl_->call(std::forward<A>(arguments)...);
  }
  M& module() const { return this->impl_->module(); }
};

// Wraps what a shared_ptr or a holder holds.
template <class M>
Wrapped<M> wrap(std::shared_ptr<M> module, const WrapOverrides& overrides = {}) {
  return Wrapped<M>(std::make_shared<WrappedImpl<M>>(std::move(module), overrides, /*is_root=*/false));
}
template <class Holder>
  requires requires(const Holder& holder) {
    typename Holder::ContainedType;
    holder.ptr();
  }
auto wrap(const Holder& holder, const WrapOverrides& overrides = {}) {
  return wrap<typename Holder::ContainedType>(holder.ptr(), overrides);
}

}  // namespace tessera
