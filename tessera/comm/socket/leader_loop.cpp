#include "tessera/comm/socket/leader_loop.h"

#include <algorithm>

#include "tessera/comm/on_every_rank.h"
#include "tessera/comm/socket/hello.h"

namespace tessera {
namespace {

Bytes encode_kind(Kind kind) { return encode(Message{.kind = kind}); }
Bytes encode_abort(const Fault& fault, Lines::Number line = 0) {
  return encode(Message{.kind = Kind::abort, .line = line, .bytes = encode(fault)});
}

}  // namespace

LeaderLoop::LeaderLoop(const SocketSeat& seat, const SocketOptions& options)
    : state(LeaderState{.lines = Lines(options.size, options.deadline)}),
      options_(options),
      keys_(keys_of_token(seat.token)),
      newcomers_(context_, zmq::socket_type::rep),
      router_(context_, zmq::socket_type::router),
      peers_(static_cast<size_t>(options.size)) {
  newcomers_.bind("inproc://zeromq.zap.01");  // before anyone can come
  limit_socket(router_);
  act_as_leader(router_, keys_);
  router_.set(zmq::sockopt::router_mandatory, true);  // so that sending to a closed connection is an error
  door_.emplace(context_, router_, seat, static_cast<size_t>(options.size) + room_for_strangers);
}

void LeaderLoop::run() {
  try {
    while (!state.with([](LeaderState& s) { return s.closing; })) turn();
    say_goodbye();
  } catch (...) {
    const Fault fault = fault_of(std::current_exception());
    state.with([&](LeaderState& s) { s.lines.break_with(fault); });
  }
}

void LeaderLoop::turn() {
  wait_for_something();
  // After standing still itself, a leader must not take the others for silent.
  const auto now = Clock::now();
  if (now - last_turn_ > options_.silence / 2) {
    for (Peer& peer : peers_) peer.heard = now;
  }
  last_turn_ = now;
  door_->count();
  answer_newcomers(newcomers_, keys_);
  drained_ = receive();
  if (drained_) lose_the_silent();
  beat();
  state.with([&](LeaderState& s) {
    s.lines.hear(0, Clock::now());
    s.lines.check(Clock::now());
  });
  send_outbox();
  tell_if_broken();
}

void LeaderLoop::wait_for_something() {
  auto until = next_beat_;
  if (const auto due = state.with([](LeaderState& s) { return s.lines.check(Clock::now()); })) until = std::min(until, *due);
  const bool hurry = !drained_ || std::ranges::any_of(peers_, [](const Peer& peer) { return peer.unreachable && !peer.gone; });
  const auto left = std::chrono::ceil<Milliseconds>(until - Clock::now());
  std::vector<zmq::pollitem_t> items{{door_->events(), 0, ZMQ_POLLIN, 0},
                                     {newcomers_.handle(), 0, ZMQ_POLLIN, 0},
                                     {router_.handle(), 0, ZMQ_POLLIN, 0},
                                     {nullptr, wake.descriptor(), ZMQ_POLLIN, 0}};
  zmq::poll(items, hurry ? Milliseconds(0) : std::max(Milliseconds(0), left));
  wake.hush();
}

// False if there is more to read.
bool LeaderLoop::receive() {
  for (int n = 0; n < most_frames_a_turn; ++n) {
    const auto frames = receive_now(router_);
    if (!frames) return true;
    if (frames->size() == 2) take(frames->front().to_string(), bytes_of(frames->back()));
  }
  return false;
}

void LeaderLoop::take(const std::string& id, std::span<const std::byte> frame) {
  const auto known = rank_of_.find(id);
  const Outcome<Message> message = capture([&] { return decode_message(frame); });
  if (known == rank_of_.end()) {
    if (message && message.value->kind == Kind::hello) welcome(id, *message.value);
    return;  // what has not said hello is not heard
  }
  const int rank = known->second;
  const Outcome<Done> acted = capture([&] { act_on(rank, Outcome(message).or_throw()); });
  if (acted) return;
  state.with([&](LeaderState& s) {
    s.lines.break_with({.code = acted.fault.code, .what = "rank " + std::to_string(rank) + " sent " + acted.fault.what});
  });
}

void LeaderLoop::welcome(const std::string& id, const Message& hello) {
  const Outcome<int> rank = capture([&] { return rank_of_hello(hello, options_.size); });
  if (!rank) {
    send_to(id, encode_abort(rank.fault));
    return;
  }
  Peer& place = peer(*rank.value);
  const auto broken = state.with([](LeaderState& s) { return s.lines.broken(); });
  if (broken || !place.id.empty()) {
    const Fault taken{.code = Code::mismatch, .what = "another process is rank " + std::to_string(*rank.value) + " already"};
    send_to(id, encode_abort(broken.value_or(taken)));
    return;
  }
  place.id = id;
  place.heard = Clock::now();
  rank_of_.emplace(id, *rank.value);
  state.with([&](LeaderState& s) { s.lines.at(*rank.value, 0).note(*rank.value, "joined", Clock::now()); });
  send(*rank.value, encode_kind(Kind::welcome));
}

void LeaderLoop::act_on(int rank, Message message) {
  Peer& from = peer(rank);
  from.heard = Clock::now();
  const auto lines = [&](auto work) { state.with([&](LeaderState& s) { work(s.lines); }); };
  lines([&](Lines& l) { l.hear(rank, from.heard); });
  switch (message.kind) {
    case Kind::hello: send(rank, encode_kind(Kind::welcome)); break;  // it has not heard yet that it is in
    case Kind::part: {
      const Lines::Number line = message.line;
      const std::string purpose = message.text;
      lines([&](Lines& l) { l.at(rank, line).progress(rank, from.heard); });
      auto whole = from.lines[line].message.add(std::move(message), options_.message_limit_bytes);
      if (whole) lines([&](Lines& l) { l.arrive(rank, line, purpose, std::move(*whole), from.heard); });
      break;
    }
    case Kind::beat:
      lines([&](Lines& l) {
        RoundTable& table = l.at(rank, message.line);
        if (std::exchange(from.lines[message.line].progress, message.first) == message.first) return;
        ByteReader far(message.bytes);
        const auto done = far.get<int64_t>();
        table.note(rank, message.text, done, far.get<int64_t>(), from.heard);
      });
      break;
    case Kind::abort: lines([&](Lines& l) { l.break_with(decode_fault(message.bytes)); }); break;
    case Kind::open: open_line(rank); break;
    case Kind::close:
      lines([&](Lines& l) { l.leave(rank, message.line); });
      from.lines.erase(message.line);
      break;
    case Kind::bye:
      from.gone = true;
      lines([&](Lines& l) { l.leave(rank); });
      break;
    case Kind::welcome:
    case Kind::refusal: throw Error({.code = Code::corrupt, .what = "what only the leader says"});
  }
}

void LeaderLoop::open_line(int rank) {
  const auto broken = state.with([&](LeaderState& s) {
    const Lines::Number line = s.lines.open(rank);
    return s.lines.at(rank, line).broken() ? std::optional(encode_abort(*s.lines.at(rank, line).broken(), line)) : std::nullopt;
  });
  if (broken) send(rank, *broken);
}

// Called when all that has come is read, so that a last word counts before the closed connection does.
void LeaderLoop::lose_the_silent() {
  for (int rank = 1; rank < options_.size; ++rank) {
    Peer& p = peer(rank);
    if (p.id.empty() || p.gone) continue;
    const bool silent = Clock::now() - p.heard > options_.silence;
    if (!silent && !p.unreachable) continue;
    p.gone = true;
    const std::string how =
        p.unreachable ? "its connection closed" : "it was silent for " + std::to_string(options_.silence.count()) + " ms";
    state.with([&](LeaderState& s) { s.lines.lose(rank, how); });
  }
}

void LeaderLoop::beat() {
  if (Clock::now() < next_beat_) return;
  next_beat_ = Clock::now() + beat_interval(options_);
  const Bytes frame = encode(Message{.kind = Kind::beat, .text = state.with([](LeaderState& s) { return s.lines.doing(0); })});
  for (int rank = 1; rank < options_.size; ++rank) send(rank, frame);
}

void LeaderLoop::send_outbox() {
  const auto outbox = state.with([](LeaderState& s) { return std::exchange(s.outbox, {}); });
  for (const auto& [rank, frame] : outbox) send(rank, frame);
}

void LeaderLoop::tell_if_broken() {
  const auto broken = state.with([](LeaderState& s) { return s.lines.broken_lines(); });
  for (const auto& [line, fault] : broken) {
    if (!told_.insert(line).second) continue;
    for (int rank = 1; rank < options_.size; ++rank) send(rank, encode_abort(fault, line));
  }
}

void LeaderLoop::send(int rank, const Bytes& frame) {
  Peer& to = peer(rank);
  if (to.id.empty() || to.gone || to.unreachable) return;
  to.unreachable = !send_to(to.id, frame);
}

// False if that connection is closed.
bool LeaderLoop::send_to(const std::string& id, const Bytes& frame) {
  try {
    router_.send(zmq::buffer(id), zmq::send_flags::sndmore | zmq::send_flags::dontwait);
    router_.send(zmq::buffer(frame), zmq::send_flags::dontwait);
    return true;
  } catch (const zmq::error_t& failed) {
    if (failed.num() == EHOSTUNREACH) return false;
    throw;
  }
}

void LeaderLoop::say_goodbye() {
  send_outbox();
  tell_if_broken();
  for (int rank = 1; rank < options_.size; ++rank) send(rank, encode_kind(Kind::bye));
}

}  // namespace tessera
