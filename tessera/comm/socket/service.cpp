#include "tessera/comm/socket/service.h"

#include <algorithm>
#include <csignal>

namespace tessera {

Milliseconds beat_interval(const SocketOptions& options) {
  return std::max(Milliseconds(10), std::min({options.beat, options.silence / 4, options.deadline / 4}));
}

void check_options(const SocketOptions& options) {
  const auto refuse = [](std::string what) { throw Error({.code = Code::invalid_argument, .what = std::move(what)}); };
  if (options.size < 1 || options.rank < 0 || options.rank >= options.size) {
    refuse("rank " + std::to_string(options.rank) + " of " + std::to_string(options.size));
  }
  if (options.deadline <= Milliseconds(0) || options.beat <= Milliseconds(0) || options.silence <= Milliseconds(0)) {
    refuse("a control plane whose deadline, beat or silence is not above 0");
  }
  if (options.message_limit_bytes < 1) refuse("a control plane whose message limit is not above 0");
}

std::optional<Fault> too_large(std::string_view purpose, size_t bytes, const SocketOptions& options) {
  if (bytes <= static_cast<size_t>(options.message_limit_bytes)) return std::nullopt;
  return Fault{.code = Code::limit,
               .what = "a message of " + std::to_string(bytes) + " bytes for '" + std::string(purpose) + "' is above the limit of " +
                       std::to_string(options.message_limit_bytes)};
}

std::thread quiet_thread(std::function<void()> body) {
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);  // a new thread inherits the mask
  struct Restore {
    const sigset_t& mask;
    ~Restore() { pthread_sigmask(SIG_SETMASK, &mask, nullptr); }
  } restore{before};
  return std::thread(std::move(body));
}

void limit_socket(zmq::socket_t& socket) {
  socket.set(zmq::sockopt::maxmsgsize, frame_limit_bytes);
  socket.set(zmq::sockopt::handshake_ivl, static_cast<int>(handshake_limit.count()));
  socket.set(zmq::sockopt::linger, static_cast<int>(linger.count()));
  // Frames are never dropped: what waits to be sent is bounded by one message a line, and what is received beyond this waits outside.
  socket.set(zmq::sockopt::sndhwm, 0);
  socket.set(zmq::sockopt::rcvhwm, most_frames_waiting);
}

std::optional<std::vector<zmq::message_t>> receive_now(zmq::socket_t& socket) {
  std::vector<zmq::message_t> frames(1);
  if (!socket.recv(frames.back(), zmq::recv_flags::dontwait)) return std::nullopt;
  while (frames.back().more()) {
    frames.emplace_back();
    if (!socket.recv(frames.back(), zmq::recv_flags::dontwait)) break;
  }
  return frames;
}

}  // namespace tessera
