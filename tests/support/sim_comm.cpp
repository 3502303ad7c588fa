#include "tests/support/sim_comm.h"

#include "tests/support/sim_node.h"

namespace tessera {
namespace {

constexpr int leader = 0;
using std::chrono::microseconds;
using std::chrono::milliseconds;

}  // namespace

SimJob::SimJob(SimWorld& world, const std::string& name, int ranks, const SimCommOptions& options)
    : world_(world), options_(options), ranks_(static_cast<size_t>(ranks)) {
  for (int r = 0; r < ranks; ++r) {
    at(r).process = std::make_unique<SimProcess>(world, name + "." + std::to_string(r));
    at(r).node = r == leader ? sim_leader(*this) : sim_follower(*this, r);
    at(r).process->on_death = [this, r] {
      world_.trace(process(r).name(), "killed");
      // The kernel hangs up for it: what it sent may still arrive, or not.
      if (world_.random.chance(2)) return hang_up(r);
      for (int other = r == leader ? 1 : r; other < (r == leader ? size() : r + 1); ++other) cut(other);
    };
  }
}

SimJob::~SimJob() {
  for (Rank& rank : ranks_) rank.process.reset();  // bodies refer to nodes
}

void SimJob::start(SimTime when, const Body& body) {
  for (int r = 0; r < size(); ++r) {
    process(r).start(when + delay(), [this, r, body] {
      SimNode& node = *at(r).node;
      node.open();
      body(*node.comm(), process(r));
      node.close();
    });
  }
}

// Most messages are quick; one in a hundred is not.
SimSpan SimJob::delay() {
  return world_.random.chance(100) ? milliseconds(world_.random.in(1, 500)) : microseconds(world_.random.in(20, 2000));
}

void SimJob::send(int from, int to, SimMessage message) {
  if (!at(from == leader ? to : from).line.closed) deliver(from, to, std::move(message));
}

void SimJob::deliver(int from, int to, SimMessage message) {
  Line& line = at(from == leader ? to : from).line;
  SimTime& last = line.last[from == leader ? 1 : 0];
  last = std::max(last, std::max(world_.now(), line.held_until) + delay());
  world_.at(last, [this, from, to, &line, generation = line.generation, message = std::move(message)]() mutable {
    if (generation == line.generation) at(to).node->receive(from, std::move(message));
  });
}

void SimJob::close_line(int rank) {
  if (std::exchange(at(rank).line.closed, true)) return;
  deliver(rank, leader, {.kind = SimMessage::Kind::hung_up});
  deliver(leader, rank, {.kind = SimMessage::Kind::hung_up});
}

void SimJob::hang_up(int rank) {
  if (rank != leader) return close_line(rank);
  for (int other = 1; other < size(); ++other) close_line(other);
}

void SimJob::partition(int rank, SimSpan span) {
  at(rank).line.held_until = std::max(at(rank).line.held_until, world_.now() + span);
  world_.trace(process(rank).name(), "partitioned");
}

void SimJob::cut(int rank) {
  Line& line = at(rank).line;
  if (line.closed) return;
  world_.trace(process(rank).name(), "cut off");
  ++line.generation;
  close_line(rank);
}

}  // namespace tessera
