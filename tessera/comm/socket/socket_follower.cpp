#include <algorithm>
#include <iterator>

#include "tessera/comm/on_every_rank.h"
#include "tessera/comm/socket/follower_loop.h"
#include "tessera/comm/socket/socket_comm.h"

namespace tessera {
namespace {

void wait_to_be_let_in(Running<FollowerLoop>& service) {
  const SocketOptions& options = service.options;
  const bool heard = service.loop.state.when(
      Deadline::after(options.deadline), [](const FollowerState& s) { return s.welcome || s.broken; },
      [](FollowerState& s) {
        if (s.broken) throw Error(*s.broken);
      });
  if (heard) return;
  throw Error({.code = Code::timeout,
               .what = "rank 0, the leader, did not let rank " + std::to_string(options.rank) + " in within " +
                       std::to_string(options.deadline.count()) + " ms",
               .hint = "is the leader running, can its address be reached, and is the invitation of this job?"});
}

class FollowerComm final : public Comm {
 public:
  FollowerComm(std::shared_ptr<Running<FollowerLoop>> service, Lines::Number number) : service_(std::move(service)), number_(number) {}
  ~FollowerComm() override {
    service_->tell([&](FollowerState& s) {
      s.lines.erase(number_);
      s.outbox.push_back(encode(Message{.kind = Kind::close, .line = number_}));
    });
  }

  int rank() const override { return service_->options.rank; }
  int size() const override { return service_->options.size; }

  Bytes round(std::string_view purpose, Bytes mine, const Combine&) override {
    if (const auto fault = too_large(purpose, mine.size(), service_->options)) abort(*fault);
    std::vector<Bytes> frames = encode_parts(number_, purpose, mine);
    service_->tell([&](FollowerState& s) {
      if (const auto fault = failure_in(s)) throw Error(*fault);
      std::ranges::move(frames, std::back_inserter(s.outbox));
      line(s).waiting = true;
    });
    return wait_for_answer().or_throw();
  }

  void note(std::string_view doing, int64_t done_bytes, int64_t total_bytes) override {
    service_->loop.state.with([&](FollowerState& s) {
      FollowerLine& mine = line(s);
      mine.doing = doing;
      mine.done_bytes = done_bytes;
      mine.total_bytes = total_bytes;
      ++mine.progress;
    });
  }

  void abort(const Fault& fault) override {
    service_->tell([&](FollowerState& s) {
      if (s.broken) return;
      s.broken = fault;
      s.outbox.push_back(encode(Message{.kind = Kind::abort, .bytes = encode(fault)}));
    });
  }

  std::optional<Fault> failure() override {
    return service_->loop.state.with([&](FollowerState& s) { return failure_in(s); });
  }

  std::unique_ptr<Comm> line() override {
    Lines::Number opened = 0;
    service_->tell([&](FollowerState& s) {
      if (s.lines.size() >= most_lines) throw Error(too_many_lines(rank()));
      opened = s.next_line++;
      s.lines[opened].doing = "opened line " + std::to_string(opened);
      s.outbox.push_back(encode(Message{.kind = Kind::open, .line = opened}));
    });
    return std::make_unique<FollowerComm>(service_, opened);
  }

 private:
  FollowerLine& line(FollowerState& s) const { return s.lines.at(number_); }
  std::optional<Fault> failure_in(FollowerState& s) const {
    if (s.broken) return s.broken;
    return line(s).broken ? line(s).broken : s.leader_left;
  }

  // The leader keeps the deadline, and this rank's loop watches the leader: one of them ends the wait.
  Outcome<Bytes> wait_for_answer() {
    Outcome<Bytes> answer;
    const auto ready = [&](FollowerState& s) { return line(s).answer || failure_in(s); };
    const auto take = [&](FollowerState& s) {
      if (!line(s).answer) throw Error(*failure_in(s));
      answer = *std::exchange(line(s).answer, std::nullopt);
    };
    while (!service_->loop.state.when(Deadline::after(service_->options.deadline), ready, take)) {
    }
    return answer;
  }

  const std::shared_ptr<Running<FollowerLoop>> service_;
  const Lines::Number number_;
};

}  // namespace

std::unique_ptr<Comm> socket_follower(const std::string& invitation, const SocketOptions& options) {
  check_options(options);
  if (options.rank == 0) throw Error({.code = Code::invalid_argument, .what = "rank 0 leads and cannot follow"});
  auto service = std::make_shared<Running<FollowerLoop>>(invitation, options);
  wait_to_be_let_in(*service);
  return std::make_unique<FollowerComm>(std::move(service), 0);
}

}  // namespace tessera
