// tests/support/sim_world.h: a world in which many processes run in one thread, in an order that a seed decides.
// Model       What happens is a queue of events in virtual time; the clock moves to the next event and never waits. A process has a
//             body, which is a fiber, and its body runs until it sleeps or waits: between two such points nothing else happens.
// Death       A killed process runs no further: Killed is thrown from where its body stands, and again from whatever it does next, so that
//             code which catches everything has no effect either. A paused one (SIGSTOP) goes on later, where it stood.
// Replay      The same seed gives the same events. trace() takes them down, and its hash tells two runs apart.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <queue>
#include <string>
#include <string_view>
#include <vector>

#include "tessera/base/deadline.h"
#include "tests/support/fiber.h"
#include "tests/support/seeded_random.h"

namespace tessera {

using SimTime = Deadline::Clock::time_point;
using SimSpan = std::chrono::nanoseconds;

// Not an error of anybody's: no std::exception.
struct Killed {};

class SimWorld {
 public:
  explicit SimWorld(uint64_t seed) : random(seed) {}

  SimTime now() const { return now_; }
  void at(SimTime when, std::function<void()> what);
  void after(SimSpan span, std::function<void()> what) { at(now_ + span, std::move(what)); }
  // Until nothing is left to happen; false if that is not so within `limit`.
  bool run_until_quiet(SimSpan limit);

  // One line of the run's story; save ids, which no seed decides, are masked.
  void trace(std::string_view who, std::string_view what);
  uint64_t hash() const { return hash_; }
  void print_trace() { print_ = true; }

  SeededRandom random;

 private:
  struct Event {
    SimTime when;
    uint64_t number;  // of two at one time, the one that was planned first
    std::function<void()> what;
    bool operator<(const Event& other) const { return std::pair(when, number) > std::pair(other.when, other.number); }
  };
  std::priority_queue<Event> events_;
  SimTime now_ = SimTime(std::chrono::hours(1));
  uint64_t number_ = 0;
  uint64_t hash_ = 0xcbf29ce484222325;
  bool print_ = false;
};

class SimProcess {
 public:
  SimProcess(SimWorld& world, std::string name) : world_(world), name_(std::move(name)) {}
  ~SimProcess() { unwind(); }

  // Runs `body` from `when` on. It ends by returning, or by Killed.
  void start(SimTime when, std::function<void()> body);

  // From the body. Each may throw Killed.
  void sleep(SimSpan span);
  void wait();  // until wake(), which may come for nothing
  void check() const {
    if (dead_) throw Killed{};
  }

  void wake();
  void kill();
  void pause(SimSpan span);
  void pause_body(SimSpan span) { body_runs_from_ = std::max(body_runs_from_, world_.now() + span); }  // it hangs, the process lives
  // Kills, or pauses for a time, at its n-th sleep or wait from now on.
  void at_step(int64_t n, std::function<void()> what) { plans_.push_back({steps_ + n, std::move(what)}); }

  bool dead() const { return dead_; }
  bool ended() const { return !fiber_ || fiber_->ended(); }
  // When a paused process goes on; in the past for one that is not paused.
  SimTime runs_from() const { return runs_from_; }
  int64_t steps() const { return steps_; }
  const std::string& name() const { return name_; }
  SimWorld& world() { return world_; }
  std::function<void()> on_death = {};  // after its body is gone

 private:
  struct Plan {
    int64_t step;
    std::function<void()> what;
  };
  void stand();
  void go_on_at(SimTime when);
  void go_on();
  void unwind();

  SimWorld& world_;
  const std::string name_;
  std::unique_ptr<Fiber> fiber_;
  std::vector<Plan> plans_;
  SimTime runs_from_ = SimTime::min();
  SimTime body_runs_from_ = SimTime::min();
  int64_t steps_ = 0;
  bool waiting_ = false;
  bool inside_ = false;
  bool dead_ = false;
};

}  // namespace tessera
