// tessera/fsdp/unit.h: one flat buffer of parameters, of which each rank keeps one shard.
// A wrapped module has one FlatUnit for each (dtype, trainable) among its own parameters, in nearly all models one.
// Invariants  The shard is a leaf that the optimizer sees; it is always there. The full buffer has bytes only between
//             unshard() and reshard(); reading a parameter at any other time throws an error that names it.
//             The parameters' tensors keep their identity for life: they are views of the full buffer.
//             shard()'s padding is 0, and so is that of its gradient.
// no_shard    The shard is the full buffer: nothing is ever gathered or freed, and shard_rank() is 0 everywhere. In mixed precision there
//             is a full buffer beside it, filled by a cast.
// Hybrid      A buffer is sharded within the shard group; gradients are reduced there, then among the replicas.
// Precision   shard() and its gradient have the dtype that the parameters were built with. The full buffer has param_dtype; a precise one,
//             which the parameters are views of while somebody asked for it, has that of the shard.
// Collective  unshard() is a collective: every rank calls it, in the same order.
// Errors      Throws Error; what the collectives threw passes through.
// Threads     One thread a rank.
#pragma once

#include <ATen/core/Tensor.h>

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "tessera/base/digest.h"
#include "tessera/fsdp/flat_layout.h"
#include "tessera/fsdp/full_buffer.h"
#include "tessera/fsdp/strategy.h"

namespace tessera {

class Collectives;
enum class Reduce : uint8_t;
class Job;
class Work;
class FsdpContext;

class FlatUnit {
 public:
  // The unit's module as seen from the outermost unit around it: "h.0", and "" for that one itself. For messages; a
  // traversal (traversal.h) names units and parameters as seen from the module that it starts at.
  const std::string& module_path() const { return module_path_; }
  // "_flat_param" for the first (dtype, trainable) of the module, others "_flat_param_<dtype>[_frozen]".
  const std::string& flat_name() const { return flat_name_; }
  const FlatLayout& layout() const { return layout_; }
  Strategy strategy() const { return options_.strategy; }
  bool trainable() const { return trainable_; }
  // This rank's place in layout(): its number in the shard group, or 0 where every rank holds all.
  int shard_rank() const { return shard_rank_; }
  // The first replica's ranks answer for what all replicas hold alike.
  int replica() const { return replica_; }
  const WrapOptions& options() const { return options_; }
  const Job& job() const;
  void refuse_while_summoned(const char* what) const;

  // This rank's shard: 1-D, layout().shard_numel elements, a leaf; its grad() has the same shape once there is one.
  const at::Tensor& shard() const { return shard_; }
  // This rank's part of one parameter, in the shard: 1-D, may be empty. Shares memory, takes no part in autograd.
  at::Tensor shard_part(size_t index) const { return part_of(shard_, index); }
  // The same part of anything that is laid out like the shard: a gradient, a moment.
  at::Tensor part_of(const at::Tensor& like_shard, size_t index) const;
  // What all ranks hold of something that is laid out like the shard: 1-D, padding included; the thing itself where every rank holds all of
  // it. Collective.
  at::Tensor whole_of(const at::Tensor& like_shard, const std::string& label) const;

  // The whole buffer, padding included. Its bytes are there while whole().
  const at::Tensor& full() const { return held_->flat(); }
  // The tensor that the module computes with: a view of full().
  const at::Tensor& parameter(size_t index) const { return parameters_.at(index); }
  bool whole() const { return state_ == State::whole; }
  // `precise`: in the shard's dtype, whatever the unit computes in.
  void unshard(bool precise = false);
  void reshard();  // no effect where nothing is whole, or where the shard is the full buffer

  // Says that shard()'s bytes were written to, as by a load: the full buffer, if whole, is gathered again before its next use.
  // (In-place operations of ATen need no such word.) Every rank says it, or none.
  void shard_changed() { stale_ = true; }

  // For the wrapped module that owns this unit. `parameters` are distinct, of one dtype; they become views of the full buffer.
  FlatUnit(FsdpContext& context, std::string flat_name, const WrapOptions& options, std::vector<FlatParameter> names,
           std::vector<at::Tensor> parameters);
  ~FlatUnit();
  FlatUnit(const FlatUnit&) = delete;
  FlatUnit& operator=(const FlatUnit&) = delete;

  void set_module_path(const std::string& path);
  // unshard() in two steps, so that the gather runs while another unit computes.
  void launch_unshard(bool precise = false);
  void finish_unshard();
  // While it is whole and lies elsewhere: puts the whole parameters into host memory, until reshard(); a buffer that is not the shard is
  // free then.
  void offload();
  // Copies this rank's range of the whole parameters into the shard.
  void write_back();
  // Throws where someone put another tensor's memory below a parameter.
  void check_identity() const;

  // Adds gradients, one for each parameter or undefined, to the gradient of the full buffer; and what becomes of it.
  void accumulate(std::span<const at::Tensor> gradients);
  // True if there is a gradient that has not gone all its way to shard().grad().
  bool has_unreduced() const { return full_gradient_.defined() || partial_.defined(); }
  const at::Tensor& full_gradient() const { return full_gradient_; }
  // Begins to reduce. `among_replicas`: all the way; otherwise, in a hybrid strategy, within the shard group only, and what comes of it is
  // kept until a reduction that goes all the way.
  void launch_reduce(bool among_replicas = true);
  // Takes the reduction under way one step further, once the step before is done. True when it has reached shard().grad().
  bool advance_reduce();
  void drop_gradient();  // as it is; waits for a reduction under way

  // Gathers shard().grad(), where there is one: while it is shown, each parameter has its gradient. Collective.
  void show_gradients();
  // `write_back`: this rank's range of them goes into shard().grad().
  void hide_gradients(bool write_back);
  // Of the values that the unit was built from.
  const Digest& initial_digest() const { return initial_digest_; }

 private:
  enum class State : uint8_t { sharded, gathering, whole };
  enum class Reducing : uint8_t { no, among_shards, among_replicas };
  // The shard is the full buffer.
  bool in_place() const { return !shards_ && !precise_; }
  void take(const std::vector<at::Tensor>& parameters);
  void view(FullBuffer& buffer);
  bool outdated() const;
  bool wants_gather(bool precise) const;
  void allocate_full();
  void free_full();
  Reduce reduction() const;  // by which ranks' gradients are added up
  void free_full_gradient();
  void reduce_among_replicas();
  void add_to_shard(at::Tensor gradient);
  std::string refusal() const;  // what reading a resharded parameter says

  FsdpContext& context_;
  std::string module_path_;
  std::string flat_name_;
  std::string label_;  // of its collectives: "h.0._flat_param"
  const WrapOptions options_;
  bool trainable_;
  Collectives* shards_;  // among whom a buffer is split; null where every rank holds all
  Collectives* replicas_;  // who hold the same shard; null where nobody does
  int shard_rank_;
  int replica_;
  FlatLayout layout_;
  std::vector<at::Tensor> parameters_;
  std::unique_ptr<FullBuffer> full_;
  std::unique_ptr<FullBuffer> precise_;  // where the unit computes in another dtype
  std::unique_ptr<FullBuffer> on_host_;  // while it is offloaded
  FullBuffer* held_ = nullptr;  // which of them the parameters are views of
  at::Tensor shard_;
  at::ScalarType gradient_dtype_;  // of the full gradient: wide enough for what arrives and for what is reduced
  at::ScalarType reduce_dtype_;
  at::Tensor full_gradient_;
  at::Tensor reduced_;  // where the reduction under way arrives
  at::Tensor shown_;  // the whole of shard().grad(), while it is shown
  at::Tensor partial_;  // reduced within the shard group, not yet among replicas
  double divisor_ = 1;  // what is left to divide by once reduced_ is there
  Reducing reducing_ = Reducing::no;
  bool among_replicas_ = true;
  State state_ = State::whole;
  bool stale_ = false;
  Digest initial_digest_ = {};
  uint32_t gathered_version_ = 0;  // of the shard, when the full buffer was filled from it
  std::unique_ptr<Work> gather_;
  std::unique_ptr<Work> reduce_;
};

}  // namespace tessera
