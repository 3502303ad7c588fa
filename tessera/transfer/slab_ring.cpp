#include "tessera/transfer/slab_ring.h"

#include <algorithm>

#include "tessera/base/large_pages.h"

namespace tessera {
namespace {

constexpr size_t page_bytes = 4096;  // what direct writes ask for
constexpr int long_ring = 32;        // slabs from which on
constexpr int long_stretch = 16;     // so many are made at once

}  // namespace

Slab::~Slab() {
  if (data_) ring_->give_back(data_);
}

SlabRing::Stretch::Stretch(int slabs, int64_t slab_bytes)
    : bytes(static_cast<size_t>(slabs * slab_bytes)), data(static_cast<std::byte*>(large_pages().allocate(bytes, page_bytes))) {}

SlabRing::Stretch::~Stretch() {
  if (data) large_pages().deallocate(data, bytes, page_bytes);
}

SlabRing::SlabRing(int count, int64_t slab_bytes) : count_(count), slab_bytes_(slab_bytes) {}

Slab SlabRing::acquire() {
  std::byte* data = nullptr;
  const auto can = [&](const State& state) { return state.stopped || !state.free.empty() || state.out < count_; };
  state_.with([&](State& state) { state.waits += !can(state); });
  state_.when(Deadline::after(Milliseconds::max()), can, [&](State& state) {
    if (state.stopped) throw Error(*state.stopped);
    if (state.free.empty()) grow(state);
    data = state.free.back();
    state.free.pop_back();
    state.most_out = std::max(state.most_out, ++state.out);
  });
  return Slab(*this, data);
}

void SlabRing::warm(int64_t bytes) {
  const int64_t wanted = std::min<int64_t>(count_, bytes / slab_bytes_ + (bytes % slab_bytes_ != 0));
  state_.with([&](State& state) {
    while (state.made < wanted) {
      grow(state);
      const Stretch& fresh = state.all.back();
      for (size_t at = 0; at < fresh.bytes; at += page_bytes) fresh.data[at] = std::byte{1};  // zeros could share one page
    }
  });
}

// Makes more slabs, all of them free.
void SlabRing::grow(State& state) const {
  const int slabs = count_ < long_ring ? 1 : std::min(long_stretch, count_ - state.made);
  state.free.reserve(static_cast<size_t>(state.made + slabs));  // so that giving back needs no memory and cannot fail
  const Stretch& fresh = state.all.emplace_back(slabs, slab_bytes_);
  state.made += slabs;
  // The first on top.
  for (int s = slabs; s > 0; --s) state.free.push_back(fresh.data + (s - 1) * slab_bytes_);
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
