#include "tessera/comm/socket/door.h"

#include <linux/filter.h>
#include <sys/socket.h>
#include <unistd.h>

#include <memory>

#include "tessera/comm/socket/service.h"

namespace tessera {
namespace {

constexpr const char* monitor_name = "inproc://door";
constexpr int backlog = 128;

// One interface: its first address.
std::unique_ptr<addrinfo, decltype(&freeaddrinfo)> address_of(const SocketSeat& seat) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  if (const int failed = getaddrinfo(seat.address.c_str(), std::to_string(seat.port).c_str(), &hints, &found); failed != 0) {
    throw Error({.code = Code::invalid_argument, .what = "no address for host '" + seat.address + "': " + gai_strerror(failed)});
  }
  return {found, &freeaddrinfo};
}

int listener_at(const addrinfo& address) {
  const int listener = ::socket(address.ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const int yes = 1;
  if (listener < 0 || ::setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes) != 0 ||
      ::bind(listener, address.ai_addr, address.ai_addrlen) != 0 || ::listen(listener, backlog) != 0) {
    const int failed = errno;
    if (listener >= 0) ::close(listener);
    errno = failed;
    return -1;
  }
  return listener;
}

}  // namespace

Door::Door(zmq::context_t& context, zmq::socket_t& router, const SocketSeat& seat, size_t room)
    : router_(router), monitor_(context, zmq::socket_type::pair), room_(room), listener_(listen(seat)) {
  monitor_.set(zmq::sockopt::rcvhwm, 0);  // ZeroMQ's own thread would wait for us else
  if (zmq_socket_monitor(router_.handle(), monitor_name, ZMQ_EVENT_ACCEPTED | ZMQ_EVENT_DISCONNECTED) != 0) {
    throw Error(os_fault(zmq_errno(), "watch a port"));
  }
  monitor_.connect(monitor_name);
  router_.set(zmq::sockopt::use_fd, listener_);
  router_.bind("tcp://127.0.0.1:1");  // wherever the descriptor listens; the address is not looked at
  router_.set(zmq::sockopt::use_fd, -1);
  endpoint_ = router_.get(zmq::sockopt::last_endpoint);
}

// No events after this, for which nobody would be there.
Door::~Door() { zmq_socket_monitor(router_.handle(), nullptr, 0); }

int Door::listen(const SocketSeat& seat) {
  const auto address = address_of(seat);
  const int listener = listener_at(*address);
  if (listener >= 0) return listener;
  throw Error(os_fault(errno, "cannot listen at " + seat.address + ":" + std::to_string(seat.port)));
}

// ZeroMQ's events: a number of 16 bits and a value of 32, the descriptor, then a frame with the address.
void Door::count() {
  while (const auto frames = receive_now(monitor_)) {
    ByteReader in(bytes_of(frames->front()));
    const auto event = in.get<uint16_t>();
    const auto descriptor = in.get<int32_t>();
    if (event == ZMQ_EVENT_ACCEPTED) inside_.insert(descriptor);
    else inside_.erase(descriptor);
  }
  shut(inside_.size() >= room_);
}

// A filter that lets no packet through to the listening socket; connections that are made already do not pass it.
void Door::shut(bool wanted) {
  if (shut_ == wanted) return;
  shut_ = wanted;
  sock_filter nothing{BPF_RET | BPF_K, 0, 0, 0};
  const sock_fprog program{1, &nothing};
  if (wanted) ::setsockopt(listener_, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program);
  else ::setsockopt(listener_, SOL_SOCKET, SO_DETACH_FILTER, &program, sizeof program);
}

}  // namespace tessera
