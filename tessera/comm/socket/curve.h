// tessera/comm/socket/curve.h: who may talk: the keys of a job, and the one question that ZeroMQ asks about each newcomer.
// A token is two CURVE secrets: the leader's, then the one that all followers share. Only who holds both can make either side.
#pragma once

#include <string>
#include <zmq.hpp>

namespace tessera {

struct CurveKeys {  // 32 raw bytes each
  std::string leader_public;
  std::string leader_secret;
  std::string follower_public;
  std::string follower_secret;
};

// Throws Error(invalid_argument) if the token is not 128 hexadecimal digits, Error(unsupported) where ZeroMQ has no CURVE.
CurveKeys keys_of_token(const std::string& token);
std::string new_token();

void act_as_leader(zmq::socket_t& socket, const CurveKeys& keys);
void act_as_follower(zmq::socket_t& socket, const CurveKeys& keys);

// Answers the requests that wait on the context's authentication socket: only the job's followers come in.
void answer_newcomers(zmq::socket_t& requests, const CurveKeys& keys);

}  // namespace tessera
