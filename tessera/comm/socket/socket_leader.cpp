#include <cassert>

#include "tessera/comm/on_every_rank.h"
#include "tessera/comm/socket/leader_loop.h"
#include "tessera/comm/socket/socket_comm.h"

namespace tessera {
namespace {

class LeaderComm final : public Comm {
 public:
  LeaderComm(const SocketSeat& seat, const SocketOptions& options)
      : options_(options), loop_(seat, options), thread_(quiet_thread([this] { loop_.run(); })) {}
  ~LeaderComm() override {
    loop_.state.with([](LeaderState& s) { s.closing = true; });
    loop_.wake.ring();
    thread_.join();
  }
  std::string endpoint() const { return loop_.endpoint(); }

  int rank() const override { return 0; }
  int size() const override { return options_.size; }

  Bytes round(std::string_view purpose, Bytes mine, const Combine& combine) override {
    loop_.state.with([&](LeaderState& s) {
      s.rounds.arrive(0, purpose, std::move(mine), Clock::now());
      throw_if_broken(s);
    });
    loop_.wake.ring();
    std::vector<Bytes> messages = wait_for_all();
    Outcome<std::vector<Bytes>> combined = capture([&] { return combine(std::move(messages)); });
    if (!combined) return refuse(combined.fault);
    return answer(purpose, std::move(*combined.value));
  }

  void note(std::string_view doing) override {
    loop_.state.with([&](LeaderState& s) { s.rounds.note(0, doing, Clock::now()); });
  }

  void abort(const Fault& fault) override {
    loop_.state.with([&](LeaderState& s) { s.rounds.break_with(fault); });
    loop_.wake.ring();
  }

  std::optional<Fault> failure() override {
    return loop_.state.with([](LeaderState& s) { return s.rounds.broken(); });
  }

 private:
  static void throw_if_broken(const LeaderState& s) {
    if (s.rounds.broken()) throw Error(*s.rounds.broken());
  }

  // The loop keeps the deadline: it breaks the rounds, which ends the wait.
  std::vector<Bytes> wait_for_all() {
    std::vector<Bytes> messages;
    const auto ready = [](const LeaderState& s) { return s.rounds.complete() || s.rounds.broken(); };
    const auto take = [&](LeaderState& s) {
      throw_if_broken(s);
      messages = s.rounds.take_messages();
    };
    while (!loop_.state.when(Deadline::after(options_.deadline), ready, take)) {
    }
    return messages;
  }

  Bytes answer(std::string_view purpose, std::vector<Bytes> answers) {
    assert(answers.size() == static_cast<size_t>(options_.size));  // a Combine answers every rank
    std::vector<std::pair<int, Bytes>> frames;
    for (int rank = 1; rank < options_.size; ++rank) {
      Bytes& mine = answers[static_cast<size_t>(rank)];
      if (const auto fault = too_large(purpose, mine.size(), options_)) {
        abort(*fault);
        throw Error(*fault);
      }
      for (Bytes& frame : encode_parts(purpose, mine)) frames.emplace_back(rank, std::move(frame));
      mine = {};
    }
    hand_out(std::move(frames));
    return std::move(answers.front());
  }

  [[noreturn]] Bytes refuse(const Fault& fault) {
    const Bytes frame = encode(Message{.kind = Kind::refusal, .bytes = encode(fault)});
    std::vector<std::pair<int, Bytes>> frames;
    for (int rank = 1; rank < options_.size; ++rank) frames.emplace_back(rank, frame);
    hand_out(std::move(frames));
    throw Error(fault);
  }

  void hand_out(std::vector<std::pair<int, Bytes>> frames) {
    loop_.state.with([&](LeaderState& s) {
      throw_if_broken(s);
      s.rounds.answered();
      s.outbox = std::move(frames);
    });
    loop_.wake.ring();
  }

  const SocketOptions options_;
  LeaderLoop loop_;
  std::thread thread_;
};

}  // namespace

SocketLeader socket_leader(const SocketSeat& seat, const SocketOptions& options) {
  check_options(options);
  if (options.rank != 0) throw Error({.code = Code::invalid_argument, .what = "rank " + std::to_string(options.rank) + " cannot lead"});
  SocketSeat taken = seat;
  if (taken.token.empty()) taken.token = new_socket_token();
  auto comm = std::make_unique<LeaderComm>(taken, options);
  std::string invitation = comm->endpoint() + " " + taken.token;
  return {.comm = std::move(comm), .invitation = std::move(invitation)};
}

std::string new_socket_token() { return new_token(); }

std::string socket_invitation(const SocketSeat& seat) {
  const bool v6 = seat.address.find(':') != std::string::npos;
  return "tcp://" + (v6 ? "[" + seat.address + "]" : seat.address) + ":" + std::to_string(seat.port) + " " + seat.token;
}

}  // namespace tessera
