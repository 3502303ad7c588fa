// tests/support/sim_comm.h: the ranks of a job as processes of a SimWorld, each with a Comm over a simulated network.
// Model       A star at the leader, with the rules of comm/socket: beats, silence, deadlines by the RoundTable, a last word before a
//             closed connection counts, and no blame for others after standing still oneself.
// Network     Each message takes a random time. Those of one connection stay in order, as in TCP; those of different ranks overtake one
//             another. A partition holds messages back (TCP sends them again); a cut connection loses those that are under way.
// Threads     One. A Comm is used from the body of its process.
#pragma once

#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "tessera/comm/comm.h"
#include "tests/support/sim_world.h"

namespace tessera {

struct SimCommOptions {
  Milliseconds deadline = std::chrono::seconds(30);
  Milliseconds beat = std::chrono::seconds(1);
  Milliseconds silence = std::chrono::seconds(10);
};

struct SimMessage {
  enum class Kind : uint8_t { part, refusal, beat, abort, open, close, bye, hung_up };
  Kind kind = Kind::beat;
  uint32_t line = 0;
  std::string text = {};  // purpose, or what the sender does
  Bytes bytes = {};
  Fault fault = {};
  uint64_t progress = 0;
  int64_t done_bytes = 0;
  int64_t total_bytes = 0;
};

// One rank's end: what its network thread does.
class SimNode {
 public:
  virtual ~SimNode() = default;
  // Its first line.
  virtual std::unique_ptr<Comm> comm() = 0;
  // What the network brings. It is heard when the process runs.
  virtual void receive(int from, SimMessage message) = 0;
  // The process begins to run, or says goodbye.
  virtual void open() = 0;
  virtual void close() = 0;
};

class SimJob {
 public:
  SimJob(SimWorld& world, const std::string& name, int ranks, const SimCommOptions& options = {});
  ~SimJob();

  using Body = std::function<void(Comm&, SimProcess&)>;
  // `body` as every rank, each in its own process, from about `when` on.
  void start(SimTime when, const Body& body);

  int size() const { return static_cast<int>(ranks_.size()); }
  SimProcess& process(int rank) { return *at(rank).process; }
  SimWorld& world() { return world_; }
  const SimCommOptions& options() const { return options_; }

  // Between the rank and the leader, both ways. Nothing for the leader itself.
  void partition(int rank, SimSpan span);
  void cut(int rank);

  // For the nodes.
  void send(int from, int to, SimMessage message);
  void hang_up(int rank);  // after what it sent; the leader hangs up on all

 private:
  // Between a rank and the leader.
  struct Line {
    SimTime last[2] = {};  // delivery of the latest message: to the leader, from it
    SimTime held_until = {};
    uint64_t generation = 0;
    bool closed = false;
  };
  struct Rank {
    std::unique_ptr<SimProcess> process;
    std::unique_ptr<SimNode> node;
    Line line;
  };
  Rank& at(int rank) { return ranks_[static_cast<size_t>(rank)]; }
  SimSpan delay();
  void deliver(int from, int to, SimMessage message);
  void close_line(int rank);

  SimWorld& world_;
  const SimCommOptions options_;
  std::vector<Rank> ranks_;
};

}  // namespace tessera
