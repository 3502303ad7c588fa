// tessera/comm/socket/service.h: what the threads of leader and followers share.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <zmq.hpp>

#include "tessera/base/deadline.h"
#include "tessera/comm/socket/socket_comm.h"
#include "tessera/comm/socket/wake.h"
#include "tessera/comm/socket/wire.h"

namespace tessera {

using Clock = Deadline::Clock;

inline constexpr Milliseconds linger = std::chrono::seconds(2);           // for answers that are unsent when a Comm closes
inline constexpr Milliseconds follower_linger = Milliseconds(500);        // for a last word to a leader that may be gone already
inline constexpr Milliseconds handshake_limit = std::chrono::seconds(5);  // for a newcomer to prove itself
inline constexpr size_t room_for_strangers = 64;                          // connections beyond one a rank, each worth a frame of memory
inline constexpr int most_frames_waiting = 64;                            // of one connection; more wait in the network
inline constexpr int most_frames_a_turn = 256;                            // so that beats go out in between

// How often to beat, so that neither the silence nor the deadline can pass between two beats of a rank at work.
Milliseconds beat_interval(const SocketOptions& options);
// Throws Error(invalid_argument) for options that make no sense.
void check_options(const SocketOptions& options);
// Error(limit) for a message above the limit.
std::optional<Fault> too_large(std::string_view purpose, size_t bytes, const SocketOptions& options);

// A thread that no signal interrupts: they are for the rank's own threads.
std::thread quiet_thread(std::function<void()> body);

// A loop in its thread: what all lines of a rank share. It says goodbye with the last of them.
template <class Loop>
struct Running {
  template <class Seat>
  Running(const Seat& seat, const SocketOptions& given) : options(given), loop(seat, given), thread(quiet_thread([this] { loop.run(); })) {}
  ~Running() {
    tell([](auto& state) { state.closing = true; });
    thread.join();
  }
  // Changes the state and lets the loop know.
  template <class Work>
  void tell(Work work) {
    const struct Ring {
      const Wake& wake;
      ~Ring() { wake.ring(); }
    } at_the_end{loop.wake};
    loop.state.with(work);
  }

  const SocketOptions options;
  Loop loop;
  std::thread thread;
};

// Limits that hold for strangers too.
void limit_socket(zmq::socket_t& socket);

// One message from the socket, as its frames; nothing if none waits.
std::optional<std::vector<zmq::message_t>> receive_now(zmq::socket_t& socket);

inline std::span<const std::byte> bytes_of(const zmq::message_t& frame) { return {frame.data<std::byte>(), frame.size()}; }

}  // namespace tessera
