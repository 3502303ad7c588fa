#include "tessera/fsdp/buffer_pool.h"

#include <ATen/ops/empty.h>
#include <c10/core/Allocator.h>
#include <c10/core/DeviceGuard.h>
#include <c10/core/StorageImpl.h>

#include <algorithm>
#include <list>
#include <utility>

#include "tessera/base/guarded.h"

namespace tessera {
namespace {

struct Buffer {
  at::DataPtr memory;
  int64_t bytes = 0;
};

struct State {
  std::list<Buffer> kept;  // longest kept first
  BufferUse use;
  int64_t most_in_use = 0;  // since the iteration began
  int64_t limit = 0;        // kept is empty, or in_use + kept <= limit
  bool stopped = false;

  void took(int64_t bytes) {
    use.in_use += bytes;
    most_in_use = std::max(most_in_use, use.in_use);
    use.peak = std::max(use.peak, use.in_use + use.kept);
  }
  // Frees what is kept until that, what is in use and `bytes` more stay within the limit.
  void make_room(int64_t bytes) {
    while (!kept.empty() && use.in_use + use.kept + bytes > limit) {
      use.kept -= kept.front().bytes;
      kept.pop_front();
    }
  }
};

}  // namespace

struct BufferPool::Shared {
  Guarded<State> state;

  // What a tensor's memory hangs from. A list, so that keeping it allocates nothing.
  struct Lent {
    std::shared_ptr<Shared> from;
    std::list<Buffer> one;
  };

  static void give_back(void* context) {
    const std::unique_ptr<Lent> lent(static_cast<Lent*>(context));
    lent->from->state.with([&](State& state) {
      const int64_t bytes = lent->one.front().bytes;
      state.use.in_use -= bytes;
      if (state.stopped || state.use.in_use + state.use.kept + bytes > state.limit) return;
      state.use.kept += bytes;
      state.kept.splice(state.kept.end(), lent->one);
    });
  }
};

BufferPool::BufferPool() : shared_(std::make_shared<Shared>()) {}
BufferPool::~BufferPool() { stop_keeping(); }

at::DataPtr BufferPool::allocate(at::Device device, int64_t bytes) {
  c10::Allocator* system = c10::GetAllocator(device.type());
  const c10::DeviceGuard guard(device);
  if (!device.is_cpu() || bytes == 0) return system->allocate(static_cast<size_t>(bytes));
  auto lent = std::make_unique<Shared::Lent>(Shared::Lent{shared_, {}});
  shared_->state.with([&](State& state) {
    const auto newest = std::find_if(state.kept.rbegin(), state.kept.rend(), [&](const Buffer& kept) { return kept.bytes == bytes; });
    if (newest == state.kept.rend()) return state.make_room(bytes);
    lent->one.splice(lent->one.end(), state.kept, std::prev(newest.base()));
    state.use.kept -= bytes;
    state.took(bytes);
  });
  if (lent->one.empty()) {
    lent->one.push_back({system->allocate(static_cast<size_t>(bytes)), bytes});  // may throw: then nothing was counted
    shared_->state.with([&](State& state) {
      state.use.fresh += bytes;
      state.took(bytes);
    });
  }
  void* const data = lent->one.front().memory.get();
  return {data, lent.release(), &Shared::give_back, device};
}

at::Tensor BufferPool::empty(int64_t numel, const at::TensorOptions& options) {
  if (!options.device().is_cpu()) return at::empty({numel}, options);
  at::Tensor tensor = at::empty({0}, options);
  const int64_t bytes = numel * static_cast<int64_t>(tensor.element_size());
  c10::StorageImpl* storage = tensor.storage().unsafeGetStorageImpl();
  storage->set_data_ptr_noswap(allocate(options.device(), bytes));
  storage->set_nbytes(static_cast<size_t>(bytes));
  tensor.unsafeGetTensorImpl()->set_sizes_contiguous({numel});
  return tensor;
}

void BufferPool::begin_iteration() {
  shared_->state.with([](State& state) { state.most_in_use = state.use.in_use; });
}

void BufferPool::end_iteration() {
  shared_->state.with([](State& state) {
    state.limit = state.most_in_use;
    state.make_room(0);
  });
}

void BufferPool::stop_keeping() {
  shared_->state.with([](State& state) {
    state.stopped = true;
    state.limit = 0;
    state.make_room(0);
  });
}

BufferUse BufferPool::use() const {
  return shared_->state.with([](const State& state) { return state.use; });
}

void BufferPool::reset_use() {
  shared_->state.with([](State& state) {
    state.use.peak = state.use.in_use + state.use.kept;
    state.use.fresh = 0;
  });
}

}  // namespace tessera
