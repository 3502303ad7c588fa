// tessera/comm/socket/follower_loop.h: a follower's thread.
// It carries the rank's messages to the leader, beats, and hears when the job breaks.
//
// Threads     run() in the loop's own thread; the rest of the process reaches it through `state` and `wake` alone.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>
#include <zmq.hpp>

#include "tessera/base/guarded.h"
#include "tessera/comm/lines.h"
#include "tessera/comm/socket/curve.h"
#include "tessera/comm/socket/service.h"
#include "tessera/comm/socket/wake.h"

namespace tessera {

struct FollowerLine {
  bool waiting = false;                       // for the answer of a round
  std::optional<Outcome<Bytes>> answer = {};  // until the rank takes it
  std::optional<Fault> broken = {};           // this line alone
  std::string doing = "joined";
  int64_t done_bytes = 0;
  int64_t total_bytes = 0;
  uint64_t progress = 0;
};

struct FollowerState {
  bool welcome = false;
  std::map<Lines::Number, FollowerLine> lines = {{0, {}}};  // those that are open
  Lines::Number next_line = 1;
  std::optional<Fault> broken = {};
  std::optional<Fault> leader_left = {};  // an error only once this rank needs the leader
  std::vector<Bytes> outbox = {};         // frames
  bool closing = false;
};

class FollowerLoop {
 public:
  FollowerLoop(const std::string& invitation, const SocketOptions& options);
  // Until `state.closing`. Does not throw: what goes wrong breaks the Comm.
  void run();

  Guarded<FollowerState> state;
  Wake wake;

 private:
  void turn();
  void wait_for_something();
  bool receive();
  void act_on(Message message);
  void hear_of_connection();
  void lose_a_silent_leader();
  void speak();
  void send(const Bytes& frame);
  void break_with(const Fault& fault);
  void lose_leader(const std::string& how);

  SocketOptions options_;
  CurveKeys keys_;
  zmq::context_t context_;
  zmq::socket_t dealer_;
  zmq::socket_t monitor_;
  std::map<Lines::Number, Assembly> answers_;
  std::string leader_doing_ = "starting";
  Clock::time_point heard_ = Clock::now();
  Clock::time_point next_beat_ = {};
  Clock::time_point last_turn_ = Clock::now();
  bool drained_ = true;
  bool disconnected_ = false;
  bool lost_leader_ = false;
};

}  // namespace tessera
