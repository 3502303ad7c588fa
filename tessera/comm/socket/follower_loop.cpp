#include "tessera/comm/socket/follower_loop.h"

#include <algorithm>

#include "tessera/comm/on_every_rank.h"
#include "tessera/comm/socket/hello.h"

namespace tessera {
namespace {

constexpr const char* monitor_name = "inproc://connection";

std::pair<std::string, std::string> split(const std::string& invitation) {
  const size_t space = invitation.find(' ');
  if (space == std::string::npos || !invitation.starts_with("tcp://")) {
    throw Error({.code = Code::invalid_argument, .what = "an invitation reads 'tcp://HOST:PORT TOKEN'"});
  }
  return {invitation.substr(0, space), invitation.substr(space + 1)};
}

Bytes beat_of(Lines::Number number, const FollowerLine& line) {
  ByteWriter far;
  far.put(line.done_bytes);
  far.put(line.total_bytes);
  return encode({.kind = Kind::beat, .line = number, .first = line.progress, .text = line.doing, .bytes = far.take()});
}

}  // namespace

FollowerLoop::FollowerLoop(const std::string& invitation, const SocketOptions& options)
    : options_(options),
      keys_(keys_of_token(split(invitation).second)),
      dealer_(context_, zmq::socket_type::dealer),
      monitor_(context_, zmq::socket_type::pair) {
  limit_socket(dealer_);
  act_as_follower(dealer_, keys_);
  const std::string endpoint = split(invitation).first;
  dealer_.set(zmq::sockopt::ipv6, endpoint.find('[') != std::string::npos);
  if (zmq_socket_monitor(dealer_.handle(), monitor_name, ZMQ_EVENT_DISCONNECTED | ZMQ_EVENT_HANDSHAKE_FAILED_AUTH) != 0) {
    throw Error(os_fault(zmq_errno(), "watch a connection"));
  }
  monitor_.set(zmq::sockopt::rcvhwm, 0);  // ZeroMQ's own thread would wait for us else
  monitor_.connect(monitor_name);
  try {
    dealer_.connect(endpoint);
  } catch (const zmq::error_t& failed) {
    throw Error({.code = Code::invalid_argument, .what = "cannot connect to " + endpoint + ": " + failed.what()});
  }
}

void FollowerLoop::run() {
  try {
    while (!state.with([](FollowerState& s) { return s.closing; })) turn();
    speak();
    send(encode(Message{.kind = Kind::bye}));
  } catch (...) {
    break_with(fault_of(std::current_exception()));
  }
  zmq_socket_monitor(dealer_.handle(), nullptr, 0);  // no events after this, for which nobody would be there
  // Nobody reads what lingers for a leader that is gone or never came.
  const bool heard_by_leader = !disconnected_ && state.with([](FollowerState& s) { return s.welcome && !s.leader_left; });
  dealer_.set(zmq::sockopt::linger, heard_by_leader ? static_cast<int>(follower_linger.count()) : 0);
}

void FollowerLoop::turn() {
  wait_for_something();
  const auto now = Clock::now();
  if (now - last_turn_ > options_.silence / 2) heard_ = now;  // it was this process that stood still
  last_turn_ = now;
  hear_of_connection();
  drained_ = receive();
  if (drained_) lose_a_silent_leader();
  speak();
}

void FollowerLoop::wait_for_something() {
  const auto left = std::chrono::ceil<Milliseconds>(next_beat_ - Clock::now());
  std::vector<zmq::pollitem_t> items{
      {monitor_.handle(), 0, ZMQ_POLLIN, 0}, {dealer_.handle(), 0, ZMQ_POLLIN, 0}, {nullptr, wake.descriptor(), ZMQ_POLLIN, 0}};
  zmq::poll(items, drained_ ? std::max(Milliseconds(0), left) : Milliseconds(0));
  wake.hush();
}

// False if there is more to read.
bool FollowerLoop::receive() {
  for (int n = 0; n < most_frames_a_turn; ++n) {
    const auto frames = receive_now(dealer_);
    if (!frames) return true;
    heard_ = Clock::now();
    const Outcome<Done> acted = capture([&] { act_on(decode_message(bytes_of(frames->front()))); });
    if (!acted) break_with({.code = acted.fault.code, .what = "the leader sent " + acted.fault.what});
  }
  return false;
}

void FollowerLoop::act_on(Message message) {
  const Lines::Number number = message.line;
  // Of what the leader says about a line that this rank has closed meanwhile, or not opened yet, nothing is to be done.
  const auto of_line = [&](auto work) {
    return state.with([&](FollowerState& s) {
      const auto line = s.lines.find(number);
      if (line == s.lines.end()) return false;
      work(line->second);
      return true;
    });
  };
  const auto take_answer = [&](Outcome<Bytes> answer) {
    of_line([&](FollowerLine& line) {
      if (std::exchange(line.waiting, false)) line.answer = std::move(answer);
    });
  };
  switch (message.kind) {
    case Kind::welcome:
      hear_of_connection();  // of what came before the welcome
      state.with([](FollowerState& s) { s.welcome = true; });
      break;
    case Kind::part:
      if (!of_line([](FollowerLine&) {})) answers_.erase(number);
      else if (auto whole = answers_[number].add(std::move(message), options_.message_limit_bytes)) take_answer({std::move(*whole)});
      break;
    case Kind::refusal: take_answer({std::nullopt, decode_fault(message.bytes)}); break;
    case Kind::beat: leader_doing_ = message.text; break;
    case Kind::abort:
      if (number == 0) break_with(decode_fault(message.bytes));
      else of_line([&](FollowerLine& line) { line.broken = decode_fault(message.bytes); });
      break;
    case Kind::bye:
      state.with([](FollowerState& s) {
        s.leader_left = Fault{.code = Code::peer_lost, .what = "rank 0, the leader, is gone: it left while this rank needs it"};
      });
      break;
    case Kind::hello:
    case Kind::open:
    case Kind::close: throw Error({.code = Code::corrupt, .what = "what only a follower says"});
  }
}

// ZeroMQ's events: a number of 16 bits and a value of 32, then a frame with the address.
void FollowerLoop::hear_of_connection() {
  while (const auto frames = receive_now(monitor_)) {
    const auto event = ByteReader(bytes_of(frames->front())).get<uint16_t>();
    if (event == ZMQ_EVENT_HANDSHAKE_FAILED_AUTH)
      break_with({.code = Code::mismatch, .what = "the leader did not let this rank in: it is not of its job"});
    // Before the welcome, ZeroMQ tries again by itself.
    else if (state.with([](FollowerState& s) { return s.welcome; })) disconnected_ = true;
  }
}

// Called when all that has come is read, so that a last answer counts before the closed connection does.
void FollowerLoop::lose_a_silent_leader() {
  const auto [welcome, left] = state.with([](FollowerState& s) { return std::pair(s.welcome, s.leader_left.has_value()); });
  if (!welcome || left) return;
  if (disconnected_) lose_leader("its connection closed");
  else if (Clock::now() - heard_ > options_.silence) lose_leader("it was silent for " + std::to_string(options_.silence.count()) + " ms");
}

// What the rank has to say, and beats when they are due. Both are taken at once, so that no beat on a line goes before the line is opened.
void FollowerLoop::speak() {
  const bool due = Clock::now() >= next_beat_;
  if (due) next_beat_ = Clock::now() + beat_interval(options_);
  const auto frames = state.with([&](FollowerState& s) {
    std::vector<Bytes> all = std::exchange(s.outbox, {});
    if (due && !s.welcome) all.push_back(encode(hello_of(options_.rank, options_.size)));
    for (const auto& [number, line] : s.lines) {
      if (due && s.welcome) all.push_back(beat_of(number, line));
    }
    return all;
  });
  for (const Bytes& frame : frames) send(frame);
}

void FollowerLoop::send(const Bytes& frame) {
  // It finds no room only where there is no connection, which the monitor tells.
  if (!disconnected_) dealer_.send(zmq::buffer(frame), zmq::send_flags::dontwait);
}

void FollowerLoop::break_with(const Fault& fault) {
  state.with([&](FollowerState& s) {
    if (!s.broken) s.broken = fault;
  });
}

void FollowerLoop::lose_leader(const std::string& how) {
  if (lost_leader_) return;
  lost_leader_ = true;
  // Where only the way from the leader is cut, it learns that this rank gave up.
  const std::string who = "rank " + std::to_string(options_.rank);
  send(encode(
      Message{.kind = Kind::abort,
              .bytes = encode(Fault{.code = Code::peer_lost, .what = who + " is cut off: it hears nothing of the leader; " + how})}));
  break_with({.code = Code::peer_lost, .what = "rank 0, the leader, is gone: " + how + "; last seen at: " + leader_doing_});
}

}  // namespace tessera
