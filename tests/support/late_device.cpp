#include "tests/support/late_device.h"

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/Context.h>
#include <ATen/EmptyTensor.h>
#include <ATen/core/Tensor.h>
#include <ATen/detail/HPUHooksInterface.h>
#include <ATen/native/CPUFallback.h>
#include <ATen/ops/_reshape_alias_native.h>
#include <ATen/ops/as_strided_native.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/set_native.h>
#include <ATen/ops/view_native.h>
#include <c10/core/Allocator.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <torch/library.h>

#include <array>
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <functional>
#include <map>
#include <mutex>
#include <set>
#include <utility>

namespace tessera {
namespace {

constexpr c10::DeviceType type = c10::DeviceType::HPU;
constexpr auto key = c10::DispatchKeySet(c10::DispatchKey::HPU);
constexpr uint64_t of_the_device = uint64_t{1} << 62;  // no address of a program has this bit

void* to_device(void* host) { return reinterpret_cast<void*>(reinterpret_cast<uint64_t>(host) | of_the_device); }
void* to_host(const void* device) { return reinterpret_cast<void*>(reinterpret_cast<uint64_t>(device) & ~of_the_device); }

std::array<std::atomic<int64_t>, late_devices> copies = {};

// What was asked of each stream and is not done yet. A lock for all: it is held while the work is done, which may need other streams' work.
class Streams {
 public:
  void ask(const c10::Stream& stream, std::function<void()> work) {
    const std::lock_guard lock(mutex_);
    of(stream).asked.push_back(std::move(work));
  }
  // How much was ever asked of it.
  uint64_t asked(const c10::Stream& stream) {
    const std::lock_guard lock(mutex_);
    return of(stream).done + of(stream).asked.size();
  }
  uint64_t done(const c10::Stream& stream) {
    const std::lock_guard lock(mutex_);
    return of(stream).done;
  }
  // Does what was asked of it first, so many pieces in all.
  void run(const c10::Stream& stream, uint64_t upto) {
    const std::lock_guard lock(mutex_);
    Queue& queue = of(stream);
    while (queue.done < upto) {
      const auto work = std::move(queue.asked.front());
      queue.asked.pop_front();
      ++queue.done;
      work();
    }
  }
  void run(const c10::Stream& stream) { run(stream, asked(stream)); }
  bool idle(const c10::Stream& stream) { return done(stream) == asked(stream); }
  void run_all(c10::DeviceIndex device) {
    const std::lock_guard lock(mutex_);
    for (auto& [place, queue] : queues_) {
      if (place.first == device) run(c10::Stream(c10::Stream::UNSAFE, c10::Device(type, device), place.second));
    }
  }

 private:
  struct Queue {
    std::deque<std::function<void()>> asked;
    uint64_t done = 0;
  };
  Queue& of(const c10::Stream& stream) { return queues_[{stream.device_index(), stream.id()}]; }

  std::recursive_mutex mutex_;
  std::map<std::pair<c10::DeviceIndex, c10::StreamId>, Queue> queues_;
};

Streams& streams() {
  static Streams* const all = new Streams;  // LibTorch's own threads may outlive main()
  return *all;
}

struct Current {
  c10::DeviceIndex device = 0;
  std::array<c10::StreamId, late_devices> stream = {};
};
thread_local Current current;

c10::Stream stream_of(c10::DeviceIndex device) {
  return c10::Stream(c10::Stream::UNSAFE, c10::Device(type, device), current.stream.at(static_cast<size_t>(device)));
}

struct Event {
  c10::Stream stream;
  uint64_t upto;
};

class Guard final : public c10::impl::DeviceGuardImplInterface {
 public:
  c10::DeviceType type() const override { return tessera::type; }
  c10::Device exchangeDevice(c10::Device to) const override {
    const c10::Device before = getDevice();
    setDevice(to);
    return before;
  }
  c10::Device getDevice() const override { return {type(), current.device}; }
  void setDevice(c10::Device to) const override {
    TORCH_CHECK(to.index() >= 0 && to.index() < late_devices, "no such device: ", to);
    current.device = to.index();
  }
  void uncheckedSetDevice(c10::Device to) const noexcept override { current.device = to.index(); }
  c10::Stream getStream(c10::Device of) const override { return stream_of(of.index()); }
  c10::Stream getDefaultStream(c10::Device of) const override { return c10::Stream(c10::Stream::DEFAULT, of); }
  c10::Stream getStreamFromGlobalPool(c10::Device of, bool) const override {
    static std::atomic<c10::StreamId> next = 0;
    return c10::Stream(c10::Stream::UNSAFE, of, 1 + next++ % 4);
  }
  c10::Stream getNewStream(c10::Device of, int) const override { return getStreamFromGlobalPool(of, false); }
  c10::Stream exchangeStream(c10::Stream to) const override {
    const c10::Stream before = stream_of(to.device_index());
    current.stream.at(static_cast<size_t>(to.device_index())) = to.id();
    return before;
  }
  c10::DeviceIndex deviceCount() const noexcept override { return late_devices; }

  void record(void** event, const c10::Stream& stream, c10::DeviceIndex, c10::EventFlag) const override {
    if (*event == nullptr) *event = new Event{stream, 0};
    *static_cast<Event*>(*event) = {stream, streams().asked(stream)};
  }
  void block(void* event, const c10::Stream& stream) const override {
    if (event == nullptr) return;
    streams().ask(stream, [of = *static_cast<Event*>(event)] { streams().run(of.stream, of.upto); });
  }
  bool queryEvent(void* event) const override {
    const auto* of = static_cast<Event*>(event);
    return of == nullptr || streams().done(of->stream) >= of->upto;
  }
  void destroyEvent(void* event, c10::DeviceIndex) const noexcept override { delete static_cast<Event*>(event); }
  void synchronizeEvent(void* event) const override {
    const auto* of = static_cast<Event*>(event);
    if (of != nullptr) streams().run(of->stream, of->upto);
  }
  bool queryStream(const c10::Stream& stream) const override { return streams().idle(stream); }
  void synchronizeStream(const c10::Stream& stream) const override { streams().run(stream); }
  void synchronizeDevice(c10::DeviceIndex device) const override { streams().run_all(device); }
};

// Freed in the order of the stream that it was allocated on, as a GPU's caching allocator does: what was asked of that stream before still
// finds it; what was asked of others does not.
class DeviceMemory final : public c10::Allocator {
 public:
  c10::DataPtr allocate(size_t bytes) override {
    constexpr size_t alignment = 64;
    const c10::Device here(type, current.device);
    if (bytes == 0) return {nullptr, here};
    auto held = std::make_unique<Held>(
        Held{std::aligned_alloc(alignment, (bytes + alignment - 1) / alignment * alignment), stream_of(current.device)});
    return {to_device(held->memory), held.release(), &give_back, here};
  }
  void copy_data(void* to, const void* from, size_t bytes) const override { std::memcpy(to_host(to), to_host(from), bytes); }

 private:
  struct Held {
    void* memory;
    c10::Stream stream;
  };
  static void give_back(void* context) {
    const std::unique_ptr<Held> held(static_cast<Held*>(context));
    const auto free = [memory = held->memory] { std::free(memory); };
    if (streams().idle(held->stream)) free();
    else streams().ask(held->stream, free);
  }
};

// Host memory that copies may be late to and from.
class PinnedMemory final : public c10::Allocator {
 public:
  c10::DataPtr allocate(size_t bytes) override {
    c10::DataPtr memory = c10::GetAllocator(c10::kCPU)->allocate(bytes);
    void* const data = memory.get();
    auto held = std::make_unique<Held>(Held{this, std::move(memory)});
    if (data != nullptr) {
      const std::lock_guard lock(mutex_);
      known_.insert(data);
    }
    return {data, held.release(), &give_back, c10::Device(c10::kCPU)};
  }
  void copy_data(void* to, const void* from, size_t bytes) const override { std::memcpy(to, from, bytes); }
  bool owns(const void* data) const {
    const std::lock_guard lock(mutex_);
    return known_.contains(data);
  }

 private:
  struct Held {
    const PinnedMemory* owner;
    c10::DataPtr memory;
  };
  static void give_back(void* context) {
    const std::unique_ptr<Held> held(static_cast<Held*>(context));
    const std::lock_guard lock(held->owner->mutex_);
    held->owner->known_.erase(held->memory.get());
  }
  mutable std::mutex mutex_;
  mutable std::set<const void*> known_;
};

PinnedMemory& pinned_memory() {
  static PinnedMemory* const all = new PinnedMemory;
  return *all;
}

struct Hooks final : at::HPUHooksInterface {
  explicit Hooks(at::HPUHooksArgs /*unused*/) {
    for (at::Generator& generator : generators) generator = at::detail::createCPUGenerator();
  }
  void init() const override {}
  // Where there are GPUs they are what LibTorch pins memory for.
  bool hasHPU() const override { return !at::globalContext().hasCUDA(); }
  bool isBuilt() const override { return true; }
  bool isAvailable() const override { return true; }
  bool hasPrimaryContext(c10::DeviceIndex) const override { return true; }
  c10::DeviceIndex deviceCount() const override { return late_devices; }
  c10::DeviceIndex getCurrentDevice() const override { return current.device; }
  void setCurrentDevice(c10::DeviceIndex device) const override { current.device = device; }
  c10::DeviceIndex exchangeDevice(c10::DeviceIndex device) const override { return std::exchange(current.device, device); }
  c10::DeviceIndex maybeExchangeDevice(c10::DeviceIndex device) const override { return exchangeDevice(device); }
  bool isPinnedPtr(const void* data) const override { return pinned_memory().owns(data); }
  c10::Allocator* getPinnedMemoryAllocator() const override { return &pinned_memory(); }
  const at::Generator& getDefaultGenerator(c10::DeviceIndex device) const override {
    return generators.at(static_cast<size_t>(device < 0 ? current.device : device));
  }
  mutable std::array<at::Generator, late_devices> generators;
};

// The same memory, for the CPU's kernels.
at::Tensor on_host(const at::Tensor& tensor) {
  if (tensor.is_cpu()) return tensor;
  void* const data = tensor.numel() == 0 ? nullptr : to_host(tensor.const_data_ptr());
  return at::from_blob(data, tensor.sizes(), tensor.strides(), tensor.options().device(c10::kCPU).requires_grad(false));
}

at::Tensor empty(at::IntArrayRef sizes, std::optional<at::ScalarType> dtype, std::optional<at::Layout>, std::optional<at::Device> device,
                 std::optional<bool>, std::optional<at::MemoryFormat> format) {
  const c10::DeviceGuard guard(device.value_or(c10::Device(type)));
  return at::Tensor(at::detail::empty_generic(sizes, c10::GetAllocator(type), key, dtype.value_or(at::kFloat), format));
}
at::Tensor empty_strided(at::IntArrayRef sizes, at::IntArrayRef strides, std::optional<at::ScalarType> dtype, std::optional<at::Layout>,
                         std::optional<at::Device> device, std::optional<bool>) {
  const c10::DeviceGuard guard(device.value_or(c10::Device(type)));
  return at::Tensor(at::detail::empty_strided_generic(sizes, strides, c10::GetAllocator(type), key, dtype.value_or(at::kFloat)));
}

at::Tensor copy_from(const at::Tensor& from, const at::Tensor& to, bool non_blocking) {
  const c10::Stream stream = stream_of(from.is_cpu() ? to.device().index() : from.device().index());
  // Of memory as it is now, whatever tensors come to be; what is pinned lasts, as with a GPU's allocator for it.
  const auto copy = [source = on_host(from), target = on_host(to)] { target.copy_(source); };
  const auto pinned = [](const at::Tensor& tensor) { return pinned_memory().owns(tensor.storage().data()); };
  if (non_blocking && ((from.is_cpu() && pinned(from)) || (to.is_cpu() && pinned(to)))) {
    ++copies.at(static_cast<size_t>(stream.device_index()));
    streams().ask(stream, copy);
    return to;
  }
  streams().run(stream);
  if (!from.is_cpu() && !to.is_cpu() && from.device() != to.device()) streams().run(stream_of(to.device().index()));
  copy();
  return to;
}

const at::Tensor& resize(const at::Tensor& tensor, at::IntArrayRef sizes, std::optional<at::MemoryFormat>) {
  const c10::DeviceGuard guard(tensor.device());
  const at::Tensor fresh = at::Tensor(at::detail::empty_generic(sizes, c10::GetAllocator(type), key, tensor.scalar_type(), {}));
  c10::TensorImpl* const impl = tensor.unsafeGetTensorImpl();
  c10::StorageImpl* const storage = tensor.storage().unsafeGetStorageImpl();
  const size_t wanted = fresh.storage().nbytes() + static_cast<size_t>(tensor.storage_offset()) * tensor.element_size();
  if (wanted > storage->nbytes()) {
    c10::DataPtr larger = c10::GetAllocator(type)->allocate(wanted);
    if (storage->nbytes() > 0) std::memcpy(to_host(larger.get()), to_host(storage->data()), storage->nbytes());
    storage->set_data_ptr_noswap(std::move(larger));
    storage->set_nbytes(wanted);
  }
  impl->set_sizes_contiguous(sizes);
  return tensor;
}

at::Tensor copy_from_and_resize(const at::Tensor& from, const at::Tensor& to) {
  if (to.sizes() != from.sizes()) to.resize_(from.sizes());
  return copy_from(from, to, false);
}

at::Tensor& set_part_of_storage(at::Tensor& tensor, at::Storage source, int64_t offset, at::IntArrayRef sizes, at::IntArrayRef strides) {
  c10::TensorImpl* const impl = tensor.unsafeGetTensorImpl();
  impl->set_storage_keep_dtype(std::move(source));
  impl->set_storage_offset(offset);
  strides.empty() ? impl->set_sizes_contiguous(sizes) : impl->set_sizes_and_strides(sizes, strides);
  return tensor;
}
at::Tensor& set_storage(at::Tensor& tensor, at::Storage source) {
  const auto elements = static_cast<int64_t>(source.nbytes() / tensor.element_size());
  return set_part_of_storage(tensor, std::move(source), 0, {elements}, {});
}

at::Scalar local_scalar(const at::Tensor& tensor) {
  streams().run(stream_of(tensor.device().index()));
  return on_host(tensor).item();
}

// By the CPU's kernel on copies. What draws random numbers draws them from the device's generator.
void fallback(const c10::OperatorHandle& op, torch::jit::Stack* stack) {
  const auto& arguments = op.schema().arguments();
  const size_t first = stack->size() - arguments.size();
  for (size_t i = 0; i < arguments.size(); ++i) {
    c10::IValue& value = (*stack)[first + i];
    if (!value.isNone() || !arguments[i].type()->isSubtypeOf(*c10::OptionalType::create(c10::GeneratorType::get()))) continue;
    value = at::globalContext().defaultGenerator((*stack)[first].toTensor().device());
  }
  at::native::cpu_fallback(op, stack);
}

void make_known() {
  static Guard* const guard = new Guard;
  c10::impl::registerDeviceGuard(type, guard);
  static DeviceMemory* const memory = new DeviceMemory;
  c10::SetAllocator(type, memory);
  static auto* const kernels = new torch::Library(torch::Library::IMPL, "aten", c10::DispatchKey::HPU, __FILE__, __LINE__);
  kernels->impl("empty.memory_format", empty);
  kernels->impl("empty_strided", empty_strided);
  kernels->impl("as_strided", at::native::as_strided_tensorimpl);
  kernels->impl("view", at::native::view);
  kernels->impl("_reshape_alias", at::native::_reshape_alias);
  kernels->impl("_copy_from", copy_from);
  kernels->impl("_copy_from_and_resize", copy_from_and_resize);
  kernels->impl("resize_", resize);
  kernels->impl("set_.source_Storage", set_storage);
  kernels->impl("set_.source_Storage_storage_offset", set_part_of_storage);
  kernels->impl("_local_scalar_dense", local_scalar);
  static auto* const others = new torch::Library(torch::Library::IMPL, "_", c10::DispatchKey::HPU, __FILE__, __LINE__);
  others->fallback(torch::CppFunction::makeFromBoxedFunction<&fallback>());
}

}  // namespace
}  // namespace tessera

namespace at {
C10_REGISTER_CLASS(HPUHooksRegistry, HPUHooks, tessera::Hooks)
}

namespace tessera {
namespace {
// LibTorch counts its devices at the first backward of all.
[[maybe_unused]] const bool known = (make_known(), true);
}  // namespace

c10::Device late_device(int index) { return {type, static_cast<c10::DeviceIndex>(index)}; }

int64_t late_copies(c10::Device device) { return copies.at(static_cast<size_t>(device.index())); }

}  // namespace tessera
