#include "tests/support/sim_world.h"

#include <cassert>
#include <cstdio>
#include <utility>

namespace tessera {
namespace {

constexpr std::string_view id_prefix = ".tessera-";
constexpr size_t id_digits = 32;

// ".tessera-<32 digits>" → ".tessera-*".
std::string without_ids(std::string_view text) {
  std::string out;
  for (size_t at = text.find(id_prefix); at != text.npos; at = text.find(id_prefix)) {
    out += text.substr(0, at + id_prefix.size());
    text.remove_prefix(at + id_prefix.size());
    const size_t digits = std::min(text.find_first_not_of("0123456789abcdef"), text.size());
    if (digits != id_digits) continue;
    out += '*';
    text.remove_prefix(digits);
  }
  return out += text;
}

}  // namespace

void SimWorld::at(SimTime when, std::function<void()> what) { events_.push({std::max(when, now_), number_++, std::move(what)}); }

bool SimWorld::run_until_quiet(SimSpan limit) {
  const SimTime end = now_ + limit;
  while (!events_.empty()) {
    if (events_.top().when > end) return false;
    const auto what = std::move(const_cast<Event&>(events_.top()).what);  // it leaves the queue at once
    now_ = events_.top().when;
    events_.pop();
    what();
  }
  return true;
}

void SimWorld::trace(std::string_view who, std::string_view what) {
  const std::string plain = what.find(id_prefix) == what.npos ? std::string(what) : without_ids(what);
  const auto mix = [&](uint64_t bits) { hash_ = (hash_ ^ bits) * 0x100000001b3; };
  mix(static_cast<uint64_t>(now_.time_since_epoch().count()));
  for (const std::string_view part : {who, std::string_view(plain)}) {
    for (const char c : part) mix(static_cast<unsigned char>(c));
    mix(0x100);
  }
  if (!print_) return;
  const double seconds = std::chrono::duration<double>(now_.time_since_epoch()).count() - 3600;
  std::printf("%12.6f %-8.*s %s\n", seconds, static_cast<int>(who.size()), who.data(), plain.c_str());
}

void SimProcess::start(SimTime when, std::function<void()> body) {
  assert(ended() && !dead_);
  fiber_ = std::make_unique<Fiber>([this, body = std::move(body)] {
    try {
      check();
      body();
    } catch (const Killed&) {
    }
  });
  waiting_ = false;
  go_on_at(when);
}

void SimProcess::sleep(SimSpan span) {
  check();
  go_on_at(world_.now() + span);
  stand();
}

void SimProcess::wait() {
  check();
  waiting_ = true;
  stand();
}

void SimProcess::wake() {
  if (!std::exchange(waiting_, false)) return;
  go_on_at(world_.now());
}

// Here the body stands until go_on() comes back to it.
void SimProcess::stand() {
  ++steps_;
  for (size_t i = 0; i < plans_.size(); ++i) {
    if (plans_[i].step != steps_) continue;
    // Not from within the body: it is to be unwound from here.
    world_.at(world_.now(), plans_[i].what);
  }
  fiber_->yield();
  check();
}

void SimProcess::go_on_at(SimTime when) {
  world_.at(when, [this] {
    if (dead_) return;
    if (const SimTime from = std::max(runs_from_, body_runs_from_); from > world_.now()) return go_on_at(from);
    go_on();
  });
}

void SimProcess::go_on() {
  assert(!inside_);
  if (ended()) return;
  inside_ = true;
  fiber_->resume();
  inside_ = false;
}

void SimProcess::unwind() {
  dead_ = true;
  waiting_ = false;
  if (!ended()) go_on();  // each further sleep or wait throws before it yields
}

void SimProcess::kill() {
  if (dead_) return;
  unwind();
  if (on_death) on_death();
}

void SimProcess::pause(SimSpan span) {
  if (dead_) return;
  runs_from_ = std::max(runs_from_, world_.now() + span);
}

}  // namespace tessera
