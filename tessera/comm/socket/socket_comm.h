// tessera/comm/socket/socket_comm.h: ranks that are processes, on one machine or many. Needs ZeroMQ with CURVE, and no LibTorch.
// Model       A star at the leader. The leader binds a port of one interface and gives its invitation to the others by whatever
//             brought the job up: a store, a file, the environment. Whoever holds the invitation is let in and can read along;
//             nobody else is heard.
// Errors      As Comm promises. A rank whose connection closes, or that is silent for `silence`, is lost: Error(peer_lost) names it on
//             every rank. Error(limit) for a message above the limit. Error(unsupported) where ZeroMQ was built without CURVE.
// Threads     Each Comm has a thread of its own, which beats, keeps the deadlines and carries note() and abort(); it works on while the
//             rank computes. Destroying a Comm says goodbye and takes at most two seconds.
#pragma once

#include <memory>
#include <string>

#include "tessera/comm/comm.h"

namespace tessera {

struct SocketOptions {
  int rank = 0;
  int size = 1;
  Milliseconds deadline = std::chrono::seconds(60);  // since a peer's last progress; for a follower, also to be let in
  Milliseconds beat = std::chrono::seconds(1);       // sent more often where the deadline or the silence is short
  Milliseconds silence = std::chrono::seconds(10);   // after this long without a beat a peer is lost
  int64_t message_limit_bytes = int64_t{1} << 30;    // the same on every rank
};

// Where the leader listens: one interface, by address or host name, and what to let others in by.
struct SocketSeat {
  std::string address = "127.0.0.1";  // as the other ranks reach it
  int port = 0;                       // 0 takes a free one
  std::string token = {};             // 128 hexadecimal digits that only this job's ranks know; empty makes one
};

struct SocketLeader {
  std::unique_ptr<Comm> comm;
  std::string invitation;  // what socket_follower() takes: keep it among the ranks
};

// Rank 0. Returns at once; the others may come later, until the first round's deadline.
SocketLeader socket_leader(const SocketSeat& seat, const SocketOptions& options);
// Any other rank. Returns once the leader has let it in. The leader need not be there yet.
std::unique_ptr<Comm> socket_follower(const std::string& invitation, const SocketOptions& options);

// 512 random bits in hexadecimal: a new token.
std::string new_socket_token();
// For a leader whose seat is agreed beforehand: the invitation that socket_leader() would return.
std::string socket_invitation(const SocketSeat& seat);

}  // namespace tessera
