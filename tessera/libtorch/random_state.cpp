#include "tessera/libtorch/random_state.h"

#include <ATen/Context.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>

#include <cstring>
#include <mutex>

#include "tessera/base/bytes.h"
#include "tessera/base/digest.h"
#include "tessera/base/error.h"

namespace tessera {
namespace {

constexpr const char* key = "stream";

// Neighbouring seeds, steps and ranks give unrelated streams.
uint64_t mix(uint64_t seed, int64_t step, int rank) {
  ByteWriter words;
  words.put(seed);
  words.put(step);
  words.put<int64_t>(rank);
  uint64_t mixed;
  const Digest hash = digest(words.take());
  std::memcpy(&mixed, hash.data(), sizeof mixed);
  return mixed;
}

}  // namespace

RandomState::RandomState(Fresh fresh) : RandomState(std::move(fresh), at::globalContext().defaultGenerator(at::Device(at::kCPU))) {}
RandomState::RandomState(Fresh fresh, at::Generator generator) : fresh_(std::move(fresh)), generator_(std::move(generator)) {}

StateDict RandomState::state_dict() const {
  const at::Tensor bytes = [&] {
    at::Generator generator = generator_;
    const std::lock_guard lock(generator.mutex());
    return generator.get_state();
  }();
  const auto* first = static_cast<const std::byte*>(bytes.data_ptr());
  StateDict state;
  state.add(key, RankLocal{Value::bytes({first, first + bytes.numel()}), true});
  return state;
}

void RandomState::load_state_dict(const StateDict& loaded) {
  const auto found = loaded.leaves.find(key);
  if (found == loaded.leaves.end()) return;
  const Value& value = std::get<RankLocal>(found->second.is).value;
  const std::lock_guard lock(generator_.mutex());
  if (value.as<Value::None>()) {
    generator_.set_current_seed(mix(fresh_.seed, fresh_.step ? fresh_.step() : 0, fresh_.rank));
    return;
  }
  const auto* stored = value.as<Value::ByteString>();
  if (!stored) throw Error({.code = Code::mismatch, .what = "a random state that is not made of bytes"});
  at::Tensor bytes = at::empty({static_cast<int64_t>(stored->data.size())}, at::kByte);
  std::memcpy(bytes.data_ptr(), stored->data.data(), stored->data.size());
  generator_.set_state(bytes);
}

}  // namespace tessera
