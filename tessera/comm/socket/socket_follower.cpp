#include "tessera/comm/on_every_rank.h"
#include "tessera/comm/socket/follower_loop.h"
#include "tessera/comm/socket/socket_comm.h"

namespace tessera {
namespace {

class FollowerComm final : public Comm {
 public:
  FollowerComm(const std::string& invitation, const SocketOptions& options)
      : options_(options), loop_(invitation, options), thread_(quiet_thread([this] { loop_.run(); })) {}
  ~FollowerComm() override {
    loop_.state.with([](FollowerState& s) { s.closing = true; });
    loop_.wake.ring();
    thread_.join();
  }

  void wait_to_be_let_in() {
    const bool heard = loop_.state.when(
        Deadline::after(options_.deadline), [](const FollowerState& s) { return s.welcome || s.broken; },
        [](FollowerState& s) {
          if (s.broken) throw Error(*s.broken);
        });
    if (heard) return;
    throw Error({.code = Code::timeout,
                 .what = "the leader did not let rank " + std::to_string(options_.rank) + " in within " +
                         std::to_string(options_.deadline.count()) + " ms",
                 .hint = "is the leader running, can its address be reached, and is the invitation of this job?"});
  }

  int rank() const override { return options_.rank; }
  int size() const override { return options_.size; }

  Bytes round(std::string_view purpose, Bytes mine, const Combine&) override {
    if (const auto fault = too_large(purpose, mine.size(), options_)) abort(*fault);
    std::vector<Bytes> frames = encode_parts(purpose, mine);
    loop_.state.with([&](FollowerState& s) {
      throw_if_broken(s);
      s.outbox = std::move(frames);
      s.waiting = true;
    });
    loop_.wake.ring();
    return wait_for_answer().or_throw();
  }

  void note(std::string_view doing) override {
    loop_.state.with([&](FollowerState& s) {
      s.doing = doing;
      ++s.progress;
    });
  }

  void abort(const Fault& fault) override {
    loop_.state.with([&](FollowerState& s) {
      if (s.broken) return;
      s.broken = fault;
      s.outbox.push_back(encode(Message{.kind = Kind::abort, .bytes = encode(fault)}));
    });
    loop_.wake.ring();
  }

  std::optional<Fault> failure() override {
    return loop_.state.with([](FollowerState& s) { return s.broken ? s.broken : s.leader_left; });
  }

 private:
  static void throw_if_broken(const FollowerState& s) {
    if (s.broken) throw Error(*s.broken);
    if (s.leader_left) throw Error(*s.leader_left);
  }

  // The leader keeps the deadline, and this rank's loop watches the leader: one of them ends the wait.
  Outcome<Bytes> wait_for_answer() {
    Outcome<Bytes> answer;
    const auto ready = [](const FollowerState& s) { return s.answer || s.broken || s.leader_left; };
    const auto take = [&](FollowerState& s) {
      if (!s.answer) throw_if_broken(s);
      answer = std::move(*s.answer);
      s.answer.reset();
    };
    while (!loop_.state.when(Deadline::after(options_.deadline), ready, take)) {
    }
    return answer;
  }

  const SocketOptions options_;
  FollowerLoop loop_;
  std::thread thread_;
};

}  // namespace

std::unique_ptr<Comm> socket_follower(const std::string& invitation, const SocketOptions& options) {
  check_options(options);
  if (options.rank == 0) throw Error({.code = Code::invalid_argument, .what = "rank 0 leads and cannot follow"});
  auto comm = std::make_unique<FollowerComm>(invitation, options);
  comm->wait_to_be_let_in();
  return comm;
}

}  // namespace tessera
