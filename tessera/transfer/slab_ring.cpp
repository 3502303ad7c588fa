#include "tessera/transfer/slab_ring.h"

#include <algorithm>
#include <new>

namespace tessera {
namespace {

constexpr int64_t page_bytes = 4096;
constexpr std::align_val_t alignment{page_bytes};  // what direct writes ask for

}  // namespace

Slab::~Slab() {
  if (data_) ring_->give_back(data_);
}

void SlabRing::Aligned::operator()(std::byte* data) const { ::operator delete(data, alignment); }

SlabRing::SlabRing(int count, int64_t slab_bytes) : count_(count), slab_bytes_(slab_bytes) {}

Slab SlabRing::acquire() {
  std::byte* data = nullptr;
  const auto can = [&](const State& state) { return state.stopped || !state.free.empty() || state.out < count_; };
  state_.with([&](State& state) { state.waits += !can(state); });
  state_.when(Deadline::after(Milliseconds::max()), can, [&](State& state) {
    if (state.stopped) throw Error(*state.stopped);
    if (state.free.empty()) {
      state.free.reserve(state.all.size() + 1);  // so that giving back needs no memory and cannot fail
      auto made = make();
      data = made.get();
      state.all.push_back(std::move(made));
    } else {
      data = state.free.back();
      state.free.pop_back();
    }
    state.most_out = std::max(state.most_out, ++state.out);
  });
  return Slab(*this, data);
}

void SlabRing::warm(int64_t bytes) {
  const auto wanted = static_cast<size_t>(std::min<int64_t>(count_, bytes / slab_bytes_ + (bytes % slab_bytes_ != 0)));
  while (state_.with([](State& state) { return state.all.size(); }) < wanted) {
    auto made = make();
    for (int64_t at = 0; at < slab_bytes_; at += page_bytes) made.get()[at] = std::byte{1};  // zeros could share one page
    state_.with([&](State& state) {
      if (state.all.size() >= wanted) return;  // somebody else was faster
      state.free.reserve(state.all.size() + 1);
      state.all.push_back(std::move(made));
      state.free.push_back(state.all.back().get());
    });
  }
}

std::unique_ptr<std::byte, SlabRing::Aligned> SlabRing::make() const {
  return std::unique_ptr<std::byte, Aligned>(static_cast<std::byte*>(::operator new(static_cast<size_t>(slab_bytes_), alignment)));
}

void SlabRing::stop(Fault fault) noexcept {
  state_.with([&](State& state) {
    if (!state.stopped) state.stopped = std::move(fault);
  });
}

void SlabRing::restart() {
  state_.with([](State& state) {
    state.most_out = state.out;
    state.waits = 0;
    state.stopped.reset();
  });
}

int64_t SlabRing::peak_bytes() const {
  return state_.with([&](State& state) { return state.most_out * slab_bytes_; });
}

int64_t SlabRing::waits() const {
  return state_.with([](State& state) { return state.waits; });
}

void SlabRing::give_back(std::byte* data) noexcept {
  state_.with([&](State& state) {
    state.free.push_back(data);
    --state.out;
  });
}

}  // namespace tessera
