#include "tessera/checkpoint/stop_signal.h"

#include <time.h>

#include <algorithm>
#include <atomic>
#include <cerrno>

namespace tessera {
namespace {

// When the first signal came, in the steady clock's nanoseconds; 0 before. A handler can reach nothing but globals.
std::atomic<int64_t> told_at = 0;
std::atomic<bool> taken = false;
static_assert(std::atomic<int64_t>::is_always_lock_free);

int64_t nanoseconds_now() {
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);  // what std::chrono::steady_clock is, and safe in a handler
  return int64_t{1'000'000'000} * now.tv_sec + now.tv_nsec;
}

void note_signal(int) {
  const int saved = errno;
  int64_t not_yet = 0;
  told_at.compare_exchange_strong(not_yet, nanoseconds_now());
  errno = saved;
}

}  // namespace

StopSignal::StopSignal(Milliseconds grace, const std::vector<int>& signals) : grace_(grace) {
  if (taken.exchange(true)) throw Error({.code = Code::exists, .what = "this process listens for a stop already"});
  told_at = 0;
  for (const int signal : signals) {
    struct sigaction before{};
    struct sigaction mine{};
    mine.sa_handler = note_signal;
    mine.sa_flags = SA_RESTART;
    sigemptyset(&mine.sa_mask);
    if (::sigaction(signal, nullptr, &before) != 0 || before.sa_handler == SIG_IGN) continue;
    if (::sigaction(signal, &mine, nullptr) == 0) before_.push_back({signal, before});
  }
}

StopSignal::~StopSignal() {
  for (const Before& before : before_) ::sigaction(before.signal, &before.action, nullptr);
  taken = false;
}

std::optional<Deadline> StopSignal::on_this_rank() const {
  const int64_t at = told_at;
  if (at == 0) return std::nullopt;
  const auto passed = std::chrono::duration_cast<Milliseconds>(std::chrono::nanoseconds(nanoseconds_now() - at));
  return Deadline::after(std::max(Milliseconds(0), grace_ - passed));
}

std::optional<Deadline> StopSignal::on_any_rank(Comm& comm) const {
  constexpr int64_t never = -1;
  const auto mine = on_this_rank();
  ByteWriter out;
  out.put<int64_t>(mine ? mine->remaining().count() : never);
  int64_t left = never;
  for (const Bytes& bytes : all_gather(comm, "is anyone told to stop", out.take())) {
    const auto theirs = ByteReader(bytes).get<int64_t>();
    if (theirs >= 0) left = left < 0 ? theirs : std::min(left, theirs);
  }
  if (left < 0) return std::nullopt;
  return Deadline::after(Milliseconds(left));
}

}  // namespace tessera
