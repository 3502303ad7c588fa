#include "tessera/fsdp/unit.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>

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

Digest digest_of(const at::Tensor& flat) {
  const at::Tensor here = flat.cpu();
  return digest({static_cast<const std::byte*>(here.const_data_ptr()), here.nbytes()});
}

// What float16 gradients of `ranks` are divided by before they are added up, so that neither their sum overflows nor they themselves
// become too small: about the root, the rest comes afterwards. (As stock's FSDP1 does.)
double divisor_before_sum(int ranks) {
  double divisor = 1;
  while (ranks % static_cast<int>(divisor) == 0 && ranks / divisor > divisor) divisor *= 2;
  return divisor;
}

// Launches a collective, or waits for one. Nobody knows when a transport that has failed lets go of memory.
template <class Part>
auto part_of_collective(FsdpContext& context, Part part) {
  try {
    return part();
  } catch (...) {
    context.pool().stop_keeping();
    throw;
  }
}

// Where there is any.
void wait_for(FsdpContext& context, std::unique_ptr<Work> work) {
  if (work) part_of_collective(context, [&] { work->wait(); });
}

}  // namespace

FlatUnit::FlatUnit(FsdpContext& context, std::string flat_name, const WrapOptions& options, std::vector<FlatParameter> names,
                   std::vector<at::Tensor> parameters)
    : context_(context),
      flat_name_(std::move(flat_name)),
      label_(flat_name_),
      options_(options),
      trainable_(parameters.front().requires_grad()),
      shards_(context.shard_group(options.strategy)),
      replicas_(context.replicate_group(options.strategy)),
      shard_rank_(shards_ ? shards_->rank() : 0),
      replica_(replicas_ ? replicas_->rank() : 0) {
  layout_ = flat_layout(std::move(names), shards_ ? shards_->size() : 1, alignment_elements(options, parameters.front()));
  layout_.copies = shards_ && replicas_ ? replicas_->size() : 1;
  take(parameters);
}

FlatUnit::~FlatUnit() {
  reduce_.reset();
  drop_gradient();
  if (!in_place() && state_ != State::sharded) context_.counters().parameter_bytes -= held_->bytes();
}

// Copies the parameters into a flat buffer, makes them views of it, and keeps this rank's shard.
void FlatUnit::take(const std::vector<at::Tensor>& parameters) {
  const at::NoGradGuard no_grad;
  at::TensorOptions as_built = parameters.front().options().requires_grad(false);
  if (options_.device) as_built = as_built.device(*options_.device);
  const MixedPrecision& mixed = options_.mixed_precision;
  const bool floating = at::isFloatingType(parameters.front().scalar_type());
  const at::ScalarType compute = floating ? mixed.param_dtype.value_or(parameters.front().scalar_type()) : parameters.front().scalar_type();
  reduce_dtype_ = floating ? mixed.reduce_dtype.value_or(compute) : compute;
  gradient_dtype_ = at::promoteTypes(compute, reduce_dtype_);

  auto buffer = std::make_unique<FullBuffer>(layout_, as_built, context_.pool());
  const at::Tensor flat = buffer->flat();
  flat.narrow(0, layout_.numel, layout_.padded_numel - layout_.numel).zero_();
  for (size_t i = 0; i < parameters.size(); ++i) buffer->view(i).copy_(parameters[i]);
  parameters_ = parameters;
  initial_digest_ = digest_of(flat.narrow(0, 0, layout_.numel));
  view(*buffer);
  if (compute == as_built.dtype().toScalarType()) {
    full_ = std::move(buffer);
  } else {
    precise_ = std::move(buffer);
  }
  if (in_place()) {
    shard_ = flat.detach();
  } else {
    UnitCounters& counters = context_.counters();
    counters.parameter_bytes += held_->bytes();
    counters.parameter_peak_bytes = std::max(counters.parameter_peak_bytes, counters.parameter_bytes);
    shard_ = flat.narrow(0, shard_rank_ * layout_.shard_numel, layout_.shard_numel).clone();
  }
  shard_.set_requires_grad(trainable_);
  if (precise_) {
    free_full();
    full_ = std::make_unique<FullBuffer>(layout_, as_built.dtype(compute), context_.pool());
    full_->free(refusal());
    view(*full_);
  }
  reshard();
}

// Parameters become views of `buffer`: the same tensors, with other memory and maybe another dtype.
void FlatUnit::view(FullBuffer& buffer) {
  if (held_ == &buffer) return;
  for (size_t i = 0; i < parameters_.size(); ++i) parameters_[i].set_data(buffer.view(i));
  held_ = &buffer;
}

at::Tensor FlatUnit::part_of(const at::Tensor& like_shard, size_t index) const {
  assert(like_shard.dim() == 1 && like_shard.numel() == layout_.shard_numel);
  return like_shard.detach().narrow(0, layout_.part_offset(shard_rank_, index), layout_.part(shard_rank_, index).size());
}

void FlatUnit::set_module_path(const std::string& path) {
  module_path_ = path;
  label_ = path.empty() ? flat_name_ : path + "." + flat_name_;
  if (!in_place()) full_->refuse_with(refusal());
}

const Job& FlatUnit::job() const { return context_.job(); }
void FlatUnit::refuse_while_summoned(const char* what) const { context_.refuse_while_summoned(what); }

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
  held_->allocate();
  UnitCounters& counters = context_.counters();
  counters.parameter_bytes += held_->bytes();
  counters.parameter_peak_bytes = std::max(counters.parameter_peak_bytes, counters.parameter_bytes);
}

void FlatUnit::free_full() {
  held_->free(refusal());
  context_.counters().parameter_bytes -= held_->bytes();
  state_ = State::sharded;
}

bool FlatUnit::outdated() const { return stale_ || shard_._version() != gathered_version_; }

bool FlatUnit::wants_gather(bool precise) const {
  if (in_place()) return false;
  const bool as_wanted = held_ == (precise && precise_ ? precise_ : full_).get();
  return state_ == State::sharded || !as_wanted || outdated();
}

void FlatUnit::launch_unshard(bool precise) {
  if (!wants_gather(precise)) return;
  FullBuffer& wanted = precise && precise_ ? *precise_ : *full_;
  if (held_ != &wanted) {
    reshard();
    view(wanted);
  }
  finish_unshard();  // of what the shard held before
  if (state_ == State::sharded) allocate_full();
  stale_ = false;
  gathered_version_ = shard_._version();
  state_ = State::gathering;
  try {
    const at::Tensor& flat = held_->flat();
    at::Tensor mine = shard_.detach();
    if (!shards_ || mine.scalar_type() != flat.scalar_type()) {
      const at::NoGradGuard no_grad;
      mine = flat.narrow(0, shard_rank_ * layout_.shard_numel, layout_.shard_numel).copy_(mine);
    }
    if (shards_) ++context_.counters().gathers;
    if (shards_ && layout_.padded_numel > 0)
      gather_ = part_of_collective(context_, [&] { return shards_->all_gather_into(flat, mine, label_); });
  } catch (...) {
    free_full();
    throw;
  }
}

void FlatUnit::finish_unshard() {
  if (state_ != State::gathering) return;
  try {
    wait_for(context_, std::move(gather_));
  } catch (...) {
    held_->abandon(refusal());
    context_.counters().parameter_bytes -= held_->bytes();
    state_ = State::sharded;
    throw;
  }
  state_ = State::whole;
}

void FlatUnit::unshard(bool precise) {
  launch_unshard(precise);
  finish_unshard();
}

void FlatUnit::offload() {
  assert(whole() && !on_host_);
  if (held_->flat().is_cpu()) return;
  const at::NoGradGuard no_grad;
  auto copy = std::make_unique<FullBuffer>(layout_, held_->flat().options().device(at::kCPU), context_.pool());
  copy->flat().copy_(held_->flat());
  if (!in_place()) held_->free(refusal());
  on_host_ = std::move(copy);
  view(*on_host_);
}

void FlatUnit::reshard() {
  if (in_place()) {
    view(*full_);
    on_host_.reset();
    return;
  }
  if (state_ != State::sharded) {
    finish_unshard();  // its memory is in use until then
    free_full();
  }
  view(*full_);
  on_host_.reset();
}

void FlatUnit::write_back() {
  if (in_place() && !on_host_) return;
  assert(whole());
  const at::NoGradGuard no_grad;
  const Range mine = layout_.range(shard_rank_);
  shard_.narrow(0, 0, mine.size()).copy_(full().narrow(0, mine.begin, mine.size()));
  stale_ = true;  // also on ranks whose range is empty, so that all decide alike
}

void FlatUnit::check_identity() const {
  for (size_t i = 0; i < parameters_.size(); ++i) {
    if (held_->is_under(parameters_[i], i)) continue;
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
    full_gradient_ = context_.pool().empty(layout_.padded_numel, held_->flat().options().dtype(gradient_dtype_));
    full_gradient_.narrow(0, layout_.numel, layout_.padded_numel - layout_.numel).zero_();
    UnitCounters& counters = context_.counters();
    counters.gradient_bytes += static_cast<int64_t>(full_gradient_.nbytes());
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

Reduce FlatUnit::reduction() const {
  const bool is_mean = options_.gradient_divisor == 0 && reduce_dtype_ != at::kHalf;
  return is_mean ? Reduce::mean : Reduce::sum;
}

void FlatUnit::launch_reduce(bool among_replicas) {
  assert(has_unreduced() && reducing_ == Reducing::no);
  const at::NoGradGuard no_grad;
  among_replicas_ = among_replicas;
  ++context_.counters().reductions;
  const int ranks = context_.job().size();
  divisor_ = reduction() == Reduce::mean ? 1 : options_.gradient_divisor == 0 ? ranks : options_.gradient_divisor;
  const double before = reduce_dtype_ == at::kHalf ? divisor_before_sum(ranks) : 1;
  divisor_ /= before;
  if (!full_gradient_.defined()) return reduce_among_replicas();  // only what was kept, which has been divided before
  if (before != 1) full_gradient_.mul_(1 / before);
  at::Tensor full = full_gradient_.to(reduce_dtype_);
  if (!shards_) {
    reduced_ = std::move(full);
    return reduce_among_replicas();
  }
  reducing_ = Reducing::among_shards;
  reduced_ = at::empty({layout_.shard_numel}, full.options());  // no buffer: it becomes the shard's gradient, and stays
  if (layout_.padded_numel == 0) return;
  reduce_ = part_of_collective(context_, [&] { return shards_->reduce_scatter_into(reduced_, std::move(full), reduction(), label_); });
}

void FlatUnit::reduce_among_replicas() {
  reducing_ = Reducing::among_replicas;
  if (partial_.defined()) {
    // Kept as it came out of the shard group.
    if (reduced_.defined()) partial_.add_(reduced_);
    reduced_ = std::exchange(partial_, at::Tensor()).to(reduce_dtype_);
  }
  if (!replicas_ || layout_.padded_numel == 0) return;
  if (!among_replicas_) {
    partial_ = reduced_.to(at::promoteTypes(reduce_dtype_, shard_.scalar_type()));
    reduced_.reset();
    return;
  }
  reduce_ = part_of_collective(context_, [&] { return replicas_->all_reduce(reduced_, reduction(), label_); });
}

bool FlatUnit::advance_reduce() {
  assert(reducing_ != Reducing::no);
  const at::NoGradGuard no_grad;
  wait_for(context_, std::move(reduce_));
  if (reducing_ == Reducing::among_shards) {
    free_full_gradient();
    reduce_among_replicas();
    if (reduce_) return false;
  }
  if (reduced_.defined()) add_to_shard(std::move(reduced_));
  free_full_gradient();
  reducing_ = Reducing::no;
  return true;
}

void FlatUnit::add_to_shard(at::Tensor reduced) {
  if (divisor_ != 1) {
    reduced = reduced.to(at::promoteTypes(reduce_dtype_, shard_.scalar_type()));
    reduced.mul_(1 / divisor_);
  }
  at::Tensor& gradient = shard_.mutable_grad();
  if (gradient.defined()) gradient.add_(reduced);
  else gradient = reduced.to(shard_.scalar_type());
}

at::Tensor FlatUnit::whole_of(const at::Tensor& like_shard, const std::string& label) const {
  if (!shards_) return like_shard;
  at::Tensor whole = at::empty({layout_.padded_numel}, like_shard.options());
  if (layout_.padded_numel > 0) part_of_collective(context_, [&] { shards_->all_gather_into(whole, like_shard, label)->wait(); });
  return whole;
}

void FlatUnit::show_gradients() {
  const at::NoGradGuard no_grad;
  const at::Tensor& gradient = shard_.grad();
  if (!gradient.defined()) return;
  shown_ = whole_of(gradient, label_ + ", gradient").to(held_->flat().device());
  for (size_t i = 0; i < parameters_.size(); ++i) {
    const FlatParameter& place = layout_.parameters[i];
    parameters_[i].mutable_grad() = shown_.narrow(0, place.offset, place.numel).view(place.sizes).to(parameters_[i].scalar_type());
  }
}

void FlatUnit::hide_gradients(bool write_back) {
  if (!shown_.defined()) return;
  const at::NoGradGuard no_grad;
  const Range mine = layout_.range(shard_rank_);
  if (write_back && shard_.grad().defined() && !shown_.is_alias_of(shard_.grad()))
    shard_.mutable_grad().narrow(0, 0, mine.size()).copy_(shown_.narrow(0, mine.begin, mine.size()));
  for (const at::Tensor& parameter : parameters_) parameter.mutable_grad() = at::Tensor();
  shown_.reset();
}

void FlatUnit::free_full_gradient() {
  if (full_gradient_.defined()) context_.counters().gradient_bytes -= static_cast<int64_t>(full_gradient_.nbytes());
  full_gradient_.reset();
}

void FlatUnit::drop_gradient() {
  capture([&] { wait_for(context_, std::move(reduce_)); });
  free_full_gradient();
  reduced_.reset();
  partial_.reset();
  reducing_ = Reducing::no;
}

}  // namespace tessera
