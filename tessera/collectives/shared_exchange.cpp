#include "tessera/collectives/shared_exchange.h"

#include <linux/futex.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <cassert>
#include <climits>
#include <ctime>
#include <new>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace tessera {
namespace {

constexpr size_t line_bytes = 128;  // two cache lines, which processors fetch together
constexpr long slice_ns = 20'000'000;
constexpr int many_looks = 1000;  // some 10 to 40 µs

static_assert(std::atomic<uint32_t>::is_always_lock_free, "processes share these");

void sleep_while(std::atomic<uint32_t>& word, uint32_t value) {
  const timespec limit{.tv_sec = 0, .tv_nsec = slice_ns};
  ::syscall(SYS_futex, reinterpret_cast<uint32_t*>(&word), FUTEX_WAIT, value, &limit, nullptr, 0);
}
void wake_all(std::atomic<uint32_t>& word) {
  ::syscall(SYS_futex, reinterpret_cast<uint32_t*>(&word), FUTEX_WAKE, INT_MAX, nullptr, nullptr, 0);
}

void relax() {
#if defined(__x86_64__)
  _mm_pause();
#endif
}

int cores() {
  cpu_set_t mine;
  return ::sched_getaffinity(0, sizeof mine, &mine) == 0 ? CPU_COUNT(&mine) : 1;
}

// Counters wrap; steps that are compared are never far apart.
bool reached(uint32_t counter, uint32_t value) { return static_cast<int32_t>(counter - value) >= 0; }

size_t rounded_up(size_t bytes, size_t to) { return (bytes + to - 1) / to * to; }

constexpr size_t page_bytes = 4096;
constexpr size_t header_bytes = sizeof(CollectiveOperation);

}  // namespace

// A number that only one rank raises, and that others sleep on.
struct alignas(line_bytes) SharedExchange::Counter {
  std::atomic<uint32_t> value;
  std::atomic<uint32_t> sleepers;
};

// What a rank says of itself.
struct SharedExchange::Seat {
  Counter written;  // steps whose slot it wrote
  Counter read;     // steps that it is through with
  alignas(line_bytes) std::atomic<uint32_t> left;
};

size_t SharedExchange::region_bytes(int ranks, const SharedSlots& slots) {
  const auto n = static_cast<size_t>(ranks);
  return rounded_up(n * sizeof(Seat), page_bytes) + rounded_up(n * slots.count * (header_bytes + slots.bytes), page_bytes);
}

SharedExchange::SharedExchange(SharedRegion region, int place, int ranks, const SharedSlots& slots)
    : region_(std::move(region)), place_(place), ranks_(ranks), slots_(slots), looks_(cores() >= ranks ? many_looks : 1) {
  assert(region_.size() == region_bytes(ranks, slots) && slots.count >= 3 && slots.bytes % 64 == 0);
}

// A region begins as zeros, which is what these begin as.
SharedExchange::Seat& SharedExchange::seat(int place) const {
  return *std::launder(reinterpret_cast<Seat*>(region_.data() + static_cast<size_t>(place) * sizeof(Seat)));
}

// Headers lie side by side behind the seats of all, then the slots, so that both begin where a line does.
std::byte* SharedExchange::slot(int place, uint32_t step) const {
  const auto n = static_cast<size_t>(ranks_);
  const size_t number = static_cast<size_t>(place) * slots_.count + step % slots_.count;
  return region_.data() + rounded_up(n * sizeof(Seat), page_bytes) + n * slots_.count * header_bytes + number * slots_.bytes;
}
CollectiveOperation& SharedExchange::header(int place, uint32_t step) const {
  const size_t number = static_cast<size_t>(place) * slots_.count + step % slots_.count;
  auto* first = region_.data() + rounded_up(static_cast<size_t>(ranks_) * sizeof(Seat), page_bytes);
  return *std::launder(reinterpret_cast<CollectiveOperation*>(first + number * header_bytes));
}

std::byte* SharedExchange::open(const Watch& watch) {
  const uint32_t free_when = writing_ + 1 - static_cast<uint32_t>(slots_.count);
  for (int p = 0; p < ranks_; ++p) {
    if (p != place_) wait_for(p, seat(p).read, free_when, watch);
  }
  return slot(place_, writing_);
}

void SharedExchange::say(const CollectiveOperation& operation) { header(place_, writing_) = operation; }

void SharedExchange::publish() { advance(seat(place_).written, ++writing_); }

const std::byte* SharedExchange::await(int place, const Watch& watch) {
  if (place != place_) wait_for(place, seat(place).written, reading_ + 1, watch);
  return slot(place, reading_);
}

const CollectiveOperation& SharedExchange::said(int place) const { return header(place, reading_); }

void SharedExchange::release() { advance(seat(place_).read, ++reading_); }

void SharedExchange::leave() {
  Seat& mine = seat(place_);
  mine.left.store(1);
  wake_all(mine.written.value);
  wake_all(mine.read.value);
}

void SharedExchange::advance(Counter& counter, uint32_t value) {
  counter.value.store(value);  // in one order with `sleepers`: whoever sleeps is seen here, or saw the value before it slept
  if (counter.sleepers.load() > 0) wake_all(counter.value);
}

void SharedExchange::wait_for(int place, Counter& counter, uint32_t value, const Watch& watch) {
  for (int look = 0; look < looks_; ++look) {
    if (reached(counter.value.load(std::memory_order_acquire), value)) return;
    relax();
  }
  struct Sleeping {
    Counter& counter;
    explicit Sleeping(Counter& counter) : counter(counter) { counter.sleepers.fetch_add(1); }
    ~Sleeping() { counter.sleepers.fetch_sub(1); }
  };
  for (;;) {
    {
      const Sleeping sleeping(counter);
      const uint32_t now = counter.value.load();
      if (reached(now, value)) return;
      sleep_while(counter.value, now);
    }
    if (reached(counter.value.load(), value)) return;
    watch(place, seat(place).left.load() != 0);
  }
}

}  // namespace tessera
