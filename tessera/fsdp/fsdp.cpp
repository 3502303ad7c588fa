#include "tessera/fsdp/fsdp.h"

#include <ATen/ops/empty.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include <algorithm>
#include <cstring>

#include "tessera/base/bytes.h"
#include "tessera/base/digest.h"
#include "tessera/comm/on_every_rank.h"
#include "tessera/fsdp/context.h"
#include "tessera/fsdp/default_generator.h"
#include "tessera/fsdp/traversal.h"

namespace tessera {
namespace {

Bytes random_bytes() {
  const at::Tensor state = default_random_state();
  const auto* first = static_cast<const std::byte*>(state.const_data_ptr());
  return Bytes(first, first + state.nbytes());
}

void set_random_bytes(const Bytes& bytes) {
  const at::Tensor state = at::empty({static_cast<int64_t>(bytes.size())}, at::kByte);
  std::memcpy(state.mutable_data_ptr(), bytes.data(), bytes.size());
  set_default_random_state(state);
}

// What a rank built: of each unit its key, its layout and the digest of its first values; what is ignored, by name and shape.
std::vector<std::pair<std::string, Digest>> describe_model(torch::nn::Module& model) {
  std::vector<std::pair<std::string, Digest>> parts;
  for (const NamedFlatUnit& named : flat_units(model)) {
    ByteWriter writer;
    writer.put(named.unit->strategy());
    writer.put(named.unit->full().scalar_type());
    // What decides on the order of collectives, and on what they carry.
    const WrapOptions& options = named.unit->options();
    writer.put(options.mixed_precision.reduce_dtype.value_or(named.unit->full().scalar_type()));
    writer.put(options.gradient_divisor);
    writer.put(options.prefetch);
    writer.put(options.recompute);
    writer.put(named.unit->layout().alignment);
    for (size_t i = 0; i < named.parameters.size(); ++i) {
      writer.put_string(named.parameters[i].name);
      writer.put_list(std::span<const int64_t>(named.unit->layout().parameters[i].sizes));
    }
    writer.put_raw(named.unit->initial_digest());
    parts.emplace_back(named.key, digest(writer.take()));
  }
  for (const NamedParameter& ignored : parameters_outside_units(model)) {
    ByteWriter writer;
    writer.put(ignored.tensor.scalar_type());
    writer.put(ignored.tensor.requires_grad());
    writer.put_list(std::span<const int64_t>(ignored.tensor.sizes()));
    parts.emplace_back(ignored.name, digest(writer.take()));
  }
  return parts;
}

// Throws on every rank where one built something else than rank 0. Training would go on, and be wrong.
void agree_on_model(Comm& comm, torch::nn::Module& model) {
  ByteWriter mine;
  for (const auto& [key, of] : describe_model(model)) {
    mine.put_string(key);
    mine.put_raw(of);
  }
  const auto all = all_gather(comm, "compare models", mine.take());
  for (size_t rank = 1; rank < all.size(); ++rank) {
    if (all[rank] == all[0]) continue;
    ByteReader first(all[0]);
    ByteReader other(all[rank]);
    std::string key;
    while (!first.empty() && !other.empty()) {
      key = first.get_string();
      if (other.get_string() != key) break;
      if (as_text(first.get_raw(sizeof(Digest))) != as_text(other.get_raw(sizeof(Digest)))) break;
    }
    throw Error({.code = Code::mismatch,
                 .what = "built another model than rank 0: the first unit or ignored parameter that differs is " + key,
                 .hint = "every rank must make the same model, with random values from LibTorch's default generator only",
                 .rank = static_cast<int>(rank),
                 .phase = Phase::start});
  }
}

// How many fields an aggregate has.
struct AnyField {
  template <class T>
  operator T() const;
};
template <class T, class... Fields>
consteval size_t count_fields() {
  if constexpr (requires { T{Fields()..., AnyField()}; }) return count_fields<T, Fields..., AnyField>();
  else return sizeof...(Fields);
}

}  // namespace

WrapOptions FsdpOptions::wrap() const {
  // The seed is the only one of its own.
  static_assert(count_fields<FsdpOptions>() == count_fields<WrapOptions>() + 1);
  static_assert(count_fields<WrapOptions>() == 11, "a field that is not copied below");
  return {.strategy = strategy,
          .shards = shards,
          .alignment_bytes = alignment_bytes,
          .min_numel = min_numel,
          .policy = policy,
          .keep_whole_below = keep_whole_below,
          .prefetch = prefetch,
          .mixed_precision = mixed_precision,
          .gradient_divisor = gradient_divisor,
          .recompute = recompute,
          .device = device};
}

namespace {

// That of a GPU without a number is the current one.
at::Device with_index(at::Device device) {
  return device.is_cpu() || device.has_index() ? device : c10::impl::VirtualGuardImpl(device.type()).getDevice();
}

// LibTorch has one thread for backward on a GPU: in it one rank would wait for another, which waits for the thread.
void refuse_shared_gpus(const Job& job, at::Device device) {
  if (!job.in_one_process()) return;
  const std::string mine = device.str();
  const auto bytes = as_bytes(mine);
  const auto all = all_gather(job.comm(), "devices", {bytes.begin(), bytes.end()});
  for (size_t r = 0; r < all.size(); ++r) {
    const auto other = std::ranges::find(all.begin() + static_cast<std::ptrdiff_t>(r) + 1, all.end(), all[r]);
    if (other == all.end() || as_text(all[r]) == "cpu") continue;
    throw Error({.code = Code::invalid_argument,
                 .what = "ranks " + std::to_string(r) + " and " + std::to_string(other - all.begin()) +
                         ", threads of one process, are both on " + std::string(as_text(all[r])),
                 .hint = "give each a GPU of its own, as by Job::local_rank(), or start processes"});
  }
}

}  // namespace

void build_in_turn(const Job& job, const FsdpOptions& given, const std::function<std::shared_ptr<Wrapper>()>& build) {
  FsdpOptions options = given;
  if (options.device) {
    options.device = with_index(*options.device);
    refuse_shared_gpus(job, *options.device);
  }
  const auto context = std::make_shared<FsdpContext>(job, options.wrap());
  Bytes random;
  if (!options.seed) random = broadcast(job.comm(), "random state", job.rank() == 0 ? random_bytes() : Bytes());
  std::shared_ptr<Wrapper> model;
  on_every_rank(job.comm(), Phase::start, [&] {
    job.in_turn([&] {
      if (options.seed) seed_default_generator(*options.seed);
      else set_random_bytes(random);
      const EnableWrap scope(context, options.wrap());
      model = build();
    });
  });
  agree_on_model(job.comm(), *model);
}

}  // namespace tessera
