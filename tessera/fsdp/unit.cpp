#include "tessera/fsdp/unit.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <c10/core/StorageImpl.h>

#include <algorithm>
#include <cassert>

#include "tessera/base/error.h"
#include "tessera/fsdp/context.h"

namespace tessera {
namespace {

int64_t alignment_elements(const WrapOptions& options, const at::Tensor& example) {
  if (options.alignment_bytes < 1) {
    throw Error(
        {.code = Code::invalid_argument, .what = "alignment_bytes is " + std::to_string(options.alignment_bytes) + "; it is at least 1"});
  }
  return std::max<int64_t>(1, options.alignment_bytes / static_cast<int64_t>(example.element_size()));
}

std::span<const std::byte> bytes_of(const at::Tensor& flat, int64_t numel) {
  const auto size = static_cast<size_t>(numel) * flat.element_size();
  return {static_cast<const std::byte*>(flat.const_data_ptr()), size};
}

}  // namespace

FlatUnit::FlatUnit(FsdpContext& context, std::string flat_name, const WrapOptions& options, std::vector<FlatParameter> names,
                   std::vector<at::Tensor> parameters)
    : context_(context),
      flat_name_(std::move(flat_name)),
      label_(flat_name_),
      strategy_(options.strategy),
      trainable_(parameters.front().requires_grad()) {
  const bool sharded = strategy_ != Strategy::no_shard;
  shard_rank_ = sharded ? context.job().rank() : 0;
  layout_ = flat_layout(std::move(names), sharded ? context.job().size() : 1, alignment_elements(options, parameters.front()));
  take(parameters);
}

FlatUnit::~FlatUnit() {
  reduce_.reset();
  drop_gradient();
  if (strategy_ != Strategy::no_shard && state_ != State::sharded) context_.counters().parameter_bytes -= full_bytes_;
}

// Copies the parameters into the flat buffer, makes them views of it, and keeps this rank's shard.
void FlatUnit::take(const std::vector<at::Tensor>& parameters) {
  const at::NoGradGuard no_grad;
  full_ = at::empty({layout_.padded_numel}, parameters.front().options().requires_grad(false));
  full_bytes_ = layout_.padded_numel * static_cast<int64_t>(full_.element_size());
  full_.narrow(0, layout_.numel, layout_.padded_numel - layout_.numel).zero_();
  for (size_t i = 0; i < parameters.size(); ++i) {
    const FlatParameter& place = layout_.parameters[i];
    const at::Tensor view = full_.narrow(0, place.offset, place.numel).view(place.sizes);
    view.copy_(parameters[i]);
    parameters[i].set_data(view);
    parameters_.push_back(parameters[i]);
  }
  initial_digest_ = digest(bytes_of(full_, layout_.numel));
  if (strategy_ == Strategy::no_shard) {
    shard_ = full_.detach();
  } else {
    UnitCounters& counters = context_.counters();
    counters.parameter_bytes += full_bytes_;
    counters.parameter_peak_bytes = std::max(counters.parameter_peak_bytes, counters.parameter_bytes);
    shard_ = full_.narrow(0, shard_rank_ * layout_.shard_numel, layout_.shard_numel).clone();
  }
  shard_.set_requires_grad(trainable_);
  reshard();
}

at::Tensor FlatUnit::part_of(const at::Tensor& like_shard, size_t index) const {
  assert(like_shard.dim() == 1 && like_shard.numel() == layout_.shard_numel);
  return like_shard.detach().narrow(0, layout_.part_offset(shard_rank_, index), layout_.part(shard_rank_, index).size());
}

void FlatUnit::set_module_path(const std::string& path) {
  module_path_ = path;
  label_ = path.empty() ? flat_name_ : path + "." + flat_name_;
  if (state_ != State::sharded || strategy_ == Strategy::no_shard) return;
  full_.storage().unsafeGetStorageImpl()->release_data_and_set_meta_custom_data_ptr_error_msg_(refusal());
}

std::string FlatUnit::refusal() const {
  std::string names;
  for (size_t i = 0; i < layout_.parameters.size() && i < 4; ++i) {
    names += (i ? ", " : "") + (module_path_.empty() ? "" : module_path_ + ".") + layout_.parameters[i].name;
  }
  if (layout_.parameters.size() > 4) names += ", and " + std::to_string(layout_.parameters.size() - 4) + " more";
  return "tessera: resharded parameters have no values: " + names +
         ". Read them in the forward of their wrapped module, or in SummonFullParams.";
}

void FlatUnit::allocate_full() {
  c10::StorageImpl* storage = full_.storage().unsafeGetStorageImpl();
  storage->clear_data_ptr_access_error_msg_();
  storage->set_data_ptr_noswap(storage->allocator()->allocate(static_cast<size_t>(full_bytes_)));
  storage->set_nbytes(static_cast<size_t>(full_bytes_));
  UnitCounters& counters = context_.counters();
  counters.parameter_bytes += full_bytes_;
  counters.parameter_peak_bytes = std::max(counters.parameter_peak_bytes, counters.parameter_bytes);
}

void FlatUnit::free_full() {
  c10::StorageImpl* storage = full_.storage().unsafeGetStorageImpl();
  storage->set_data_ptr_noswap(storage->allocator()->allocate(0));
  storage->set_nbytes(static_cast<size_t>(0));
  storage->release_data_and_set_meta_custom_data_ptr_error_msg_(refusal());
  context_.counters().parameter_bytes -= full_bytes_;
  state_ = State::sharded;
}

bool FlatUnit::outdated() const { return stale_ || shard_._version() != gathered_version_; }

void FlatUnit::launch_unshard() {
  if (strategy_ == Strategy::no_shard || state_ == State::gathering) return;
  if (state_ == State::whole && !outdated()) return;
  if (state_ == State::sharded) allocate_full();
  stale_ = false;
  gathered_version_ = shard_._version();
  state_ = State::gathering;
  ++context_.counters().gathers;
  try {
    if (layout_.padded_numel > 0) gather_ = context_.collectives().all_gather_into(full_, shard_.detach(), label_);
  } catch (...) {
    free_full();
    throw;
  }
}

void FlatUnit::finish_unshard() {
  if (state_ != State::gathering) return;
  const std::unique_ptr<Work> gather = std::move(gather_);
  try {
    if (gather) gather->wait();
  } catch (...) {
    free_full();
    throw;
  }
  state_ = State::whole;
}

void FlatUnit::unshard() {
  launch_unshard();
  finish_unshard();
}

void FlatUnit::reshard() {
  if (strategy_ == Strategy::no_shard || state_ == State::sharded) return;
  finish_unshard();  // its memory is in use until then
  free_full();
}

void FlatUnit::write_back() {
  if (strategy_ == Strategy::no_shard) return;
  assert(whole());
  const at::NoGradGuard no_grad;
  const Range mine = layout_.range(shard_rank_);
  shard_.narrow(0, 0, mine.size()).copy_(full_.narrow(0, mine.begin, mine.size()));
  stale_ = true;  // also on ranks whose range is empty, so that all decide alike
}

void FlatUnit::check_identity() const {
  const c10::StorageImpl* ours = full_.storage().unsafeGetStorageImpl();
  for (size_t i = 0; i < parameters_.size(); ++i) {
    if (parameters_[i].storage().unsafeGetStorageImpl() == ours && parameters_[i].storage_offset() == layout_.parameters[i].offset)
      continue;
    const std::string name = (module_path_.empty() ? "" : module_path_ + ".") + layout_.parameters[i].name;
    throw Error({.code = Code::invalid_argument,
                 .what = "parameter " + name + " was given other memory after wrapping",
                 .hint = "copy values in place, in SummonFullParams, rather than by set_data()"});
  }
}

void FlatUnit::accumulate(std::span<const at::Tensor> gradients) {
  assert(gradients.size() == parameters_.size());
  const at::NoGradGuard no_grad;
  const bool fresh = !full_gradient_.defined();
  if (fresh) {
    full_gradient_ = at::empty({layout_.padded_numel}, full_.options());
    full_gradient_.narrow(0, layout_.numel, layout_.padded_numel - layout_.numel).zero_();
    UnitCounters& counters = context_.counters();
    counters.gradient_bytes += full_bytes_;
    counters.gradient_peak_bytes = std::max(counters.gradient_peak_bytes, counters.gradient_bytes);
  }
  for (size_t i = 0; i < gradients.size(); ++i) {
    const FlatParameter& place = layout_.parameters[i];
    const at::Tensor part = full_gradient_.narrow(0, place.offset, place.numel).view(place.sizes);
    if (!gradients[i].defined()) {
      if (fresh) part.zero_();
      continue;
    }
    const at::Tensor gradient = gradients[i].layout() == at::kStrided ? gradients[i] : gradients[i].to_dense();
    if (fresh) part.copy_(gradient);
    else part.add_(gradient);
  }
}

void FlatUnit::launch_reduce() {
  assert(full_gradient_.defined() && !reduced_.defined());
  const bool replicated = strategy_ == Strategy::no_shard;
  reduced_ = replicated ? full_gradient_ : at::empty({layout_.shard_numel}, full_gradient_.options());
  ++context_.counters().reductions;
  if (layout_.padded_numel == 0) return;
  if (replicated) reduce_ = context_.collectives().all_reduce(full_gradient_, Reduce::mean, label_);
  else reduce_ = context_.collectives().reduce_scatter_into(reduced_, full_gradient_, Reduce::mean, label_);
}

void FlatUnit::finish_reduce() {
  const at::NoGradGuard no_grad;
  const std::unique_ptr<Work> reduce = std::move(reduce_);
  if (reduce) reduce->wait();
  at::Tensor& gradient = shard_.mutable_grad();
  if (gradient.defined()) gradient.add_(reduced_);
  else gradient = reduced_;
  drop_gradient();
}

void FlatUnit::drop_gradient() {
  if (full_gradient_.defined()) context_.counters().gradient_bytes -= full_bytes_;
  if (const std::unique_ptr<Work> reduce = std::move(reduce_)) capture([&] { reduce->wait(); });
  full_gradient_.reset();
  reduced_.reset();
}

}  // namespace tessera
