#include <algorithm>
#include <cassert>
#include <iterator>

#include "tessera/comm/on_every_rank.h"
#include "tessera/comm/socket/leader_loop.h"
#include "tessera/comm/socket/socket_comm.h"

namespace tessera {
namespace {

class LeaderComm final : public Comm {
 public:
  LeaderComm(std::shared_ptr<Running<LeaderLoop>> service, Lines::Number number) : service_(std::move(service)), number_(number) {}
  ~LeaderComm() override {
    service_->tell([&](LeaderState& s) { s.lines.leave(0, number_); });
  }

  int rank() const override { return 0; }
  int size() const override { return service_->options.size; }

  Bytes round(std::string_view purpose, Bytes mine, const Combine& combine) override {
    service_->tell([&](LeaderState& s) {
      s.lines.arrive(0, number_, purpose, std::move(mine), Clock::now());
      throw_if_broken(s);
    });
    std::vector<Bytes> messages = wait_for_all();
    Outcome<std::vector<Bytes>> combined = capture([&] { return combine(std::move(messages)); });
    if (!combined) return refuse(combined.fault);
    return answer(purpose, std::move(*combined.value));
  }

  void note(std::string_view doing, int64_t done_bytes, int64_t total_bytes) override {
    service_->loop.state.with([&](LeaderState& s) { table(s).note(0, doing, done_bytes, total_bytes, Clock::now()); });
  }

  void abort(const Fault& fault) override {
    service_->tell([&](LeaderState& s) { s.lines.break_with(fault); });
  }

  std::optional<Fault> failure() override {
    return service_->loop.state.with([&](LeaderState& s) { return table(s).broken(); });
  }

  std::unique_ptr<Comm> line() override {
    const Lines::Number opened = service_->loop.state.with([](LeaderState& s) { return s.lines.open(0); });
    return std::make_unique<LeaderComm>(service_, opened);
  }

 private:
  RoundTable& table(LeaderState& s) const { return s.lines.at(0, number_); }
  void throw_if_broken(LeaderState& s) const {
    if (table(s).broken()) throw Error(*table(s).broken());
  }

  // The loop keeps the deadline: it breaks the rounds, which ends the wait.
  std::vector<Bytes> wait_for_all() {
    std::vector<Bytes> messages;
    const auto ready = [&](LeaderState& s) { return table(s).complete() || table(s).broken(); };
    const auto take = [&](LeaderState& s) {
      throw_if_broken(s);
      messages = table(s).take_messages();
    };
    while (!service_->loop.state.when(Deadline::after(service_->options.deadline), ready, take)) {
    }
    return messages;
  }

  Bytes answer(std::string_view purpose, std::vector<Bytes> answers) {
    assert(answers.size() == static_cast<size_t>(size()));  // a Combine answers every rank
    std::vector<std::pair<int, Bytes>> frames;
    for (int rank = 1; rank < size(); ++rank) {
      Bytes& mine = answers[static_cast<size_t>(rank)];
      if (const auto fault = too_large(purpose, mine.size(), service_->options)) {
        abort(*fault);
        throw Error(*fault);
      }
      for (Bytes& frame : encode_parts(number_, purpose, mine)) frames.emplace_back(rank, std::move(frame));
      mine = {};
    }
    hand_out(std::move(frames));
    return std::move(answers.front());
  }

  [[noreturn]] Bytes refuse(const Fault& fault) {
    const Bytes frame = encode(Message{.kind = Kind::refusal, .line = number_, .bytes = encode(fault)});
    std::vector<std::pair<int, Bytes>> frames;
    for (int rank = 1; rank < size(); ++rank) frames.emplace_back(rank, frame);
    hand_out(std::move(frames));
    throw Error(fault);
  }

  void hand_out(std::vector<std::pair<int, Bytes>> frames) {
    service_->tell([&](LeaderState& s) {
      throw_if_broken(s);
      table(s).answered();
      std::ranges::move(frames, std::back_inserter(s.outbox));
    });
  }

  const std::shared_ptr<Running<LeaderLoop>> service_;
  const Lines::Number number_;
};

}  // namespace

SocketLeader socket_leader(const SocketSeat& seat, const SocketOptions& options) {
  check_options(options);
  if (options.rank != 0) throw Error({.code = Code::invalid_argument, .what = "rank " + std::to_string(options.rank) + " cannot lead"});
  SocketSeat taken = seat;
  if (taken.token.empty()) taken.token = new_socket_token();
  auto service = std::make_shared<Running<LeaderLoop>>(taken, options);
  std::string invitation = service->loop.endpoint() + " " + taken.token;
  return {.comm = std::make_unique<LeaderComm>(std::move(service), 0), .invitation = std::move(invitation)};
}

std::string new_socket_token() { return new_token(); }

std::string socket_invitation(const SocketSeat& seat) {
  const bool v6 = seat.address.find(':') != std::string::npos;
  return "tcp://" + (v6 ? "[" + seat.address + "]" : seat.address) + ":" + std::to_string(seat.port) + " " + seat.token;
}

}  // namespace tessera
