// tessera/comm/socket/door.h: the port where a leader listens, and how many may stand in it.
// ZeroMQ takes in whoever connects and knows no limit, and a stranger keeps its place for `handshake_limit`. So the listening socket is
// made here, and while as many connections are open as there is room for, the kernel drops what knocks. Whoever belongs to the job knocks
// again.
#pragma once

#include <netdb.h>

#include <set>
#include <string>
#include <zmq.hpp>

#include "tessera/comm/socket/socket_comm.h"

namespace tessera {

class Door {
 public:
  // Lets the router listen at the seat's address and port. Error(invalid_argument) for a host without an address, Error(io) for a port
  // that is taken. The router outlives it.
  Door(zmq::context_t& context, zmq::socket_t& router, const SocketSeat& seat, size_t room);
  ~Door();
  Door(const Door&) = delete;
  Door& operator=(const Door&) = delete;

  std::string endpoint() const { return endpoint_; }
  // Readable when someone came or went: then count() is due.
  void* events() { return monitor_.handle(); }
  void count();
  size_t open_connections() const { return inside_.size(); }

 private:
  int listen(const SocketSeat& seat);
  void shut(bool wanted);

  zmq::socket_t& router_;
  zmq::socket_t monitor_;
  const size_t room_;
  std::string endpoint_;
  int listener_;  // the router's
  std::set<int> inside_;
  bool shut_ = false;
};

}  // namespace tessera
