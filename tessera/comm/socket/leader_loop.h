// tessera/comm/socket/leader_loop.h: the leader's thread: it hears every rank, beats, keeps the deadlines and spreads the word.
// Threads     run() in the loop's own thread; the rest of the process reaches it through `state` and `wake` alone.
#pragma once

#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>
#include <zmq.hpp>

#include "tessera/base/guarded.h"
#include "tessera/comm/lines.h"
#include "tessera/comm/socket/curve.h"
#include "tessera/comm/socket/door.h"
#include "tessera/comm/socket/service.h"
#include "tessera/comm/socket/wake.h"

namespace tessera {

struct LeaderState {
  Lines lines;
  std::vector<std::pair<int, Bytes>> outbox = {};  // rank → frame
  bool closing = false;
};

class LeaderLoop {
 public:
  // Binds, so that what cannot be bound throws here.
  LeaderLoop(const SocketSeat& seat, const SocketOptions& options);
  std::string endpoint() const { return door_->endpoint(); }
  // Until `state.closing`. Does not throw: what goes wrong breaks the rounds.
  void run();

  Guarded<LeaderState> state;
  Wake wake;

 private:
  struct Peer {
    std::string id;  // ZeroMQ's name of its connection; empty until it said hello
    Clock::time_point heard = {};
    struct Line {
      uint64_t progress = 0;
      Assembly message = {};
    };
    std::map<Lines::Number, Line> lines = {};  // those that it has open
    bool unreachable = false;
    bool gone = false;  // left or lost: no more to do with it
  };
  Peer& peer(int rank) { return peers_[static_cast<size_t>(rank)]; }

  void turn();
  void wait_for_something();
  bool receive();
  void take(const std::string& id, std::span<const std::byte> frame);
  void welcome(const std::string& id, const Message& hello);
  void act_on(int rank, Message message);
  void lose_the_silent();
  void beat();
  void send_outbox();
  void open_line(int rank);
  void tell_if_broken();
  void send(int rank, const Bytes& frame);
  bool send_to(const std::string& id, const Bytes& frame);
  void say_goodbye();

  SocketOptions options_;
  CurveKeys keys_;
  zmq::context_t context_;
  zmq::socket_t newcomers_;
  zmq::socket_t router_;
  std::optional<Door> door_;
  std::vector<Peer> peers_;  // by rank; the leader's own place stays empty
  std::map<std::string, int> rank_of_;
  Clock::time_point next_beat_ = {};
  Clock::time_point last_turn_ = {};
  bool drained_ = true;  // nothing that has come is unread
  std::set<Lines::Number> told_;  // of which broken lines the followers know
};

}  // namespace tessera
