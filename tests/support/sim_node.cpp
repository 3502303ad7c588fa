#include "tests/support/sim_node.h"

#include <algorithm>
#include <optional>

#include "tessera/comm/round_table.h"

namespace tessera {
namespace {

using Kind = SimMessage::Kind;

// What both kinds do alike. A turn is what the network thread of a real rank does each time when it wakes.
class Node : public SimNode {
 public:
  Node(SimJob& job, int rank) : job_(job), rank_(rank), process_(job.process(rank)), world_(job.world()) {}

  int rank() const final { return rank_; }
  int size() const final { return job_.size(); }

  void receive(int from, SimMessage message) final {
    if (process_.dead() || closed_) return;
    inbox_.emplace_back(from, std::move(message));
    turn_when_running();
  }
  void open() final {
    last_turn_ = world_.now();
    opened();
    open_ = true;
    tick();
  }
  void close() final {
    goodbye();
    closed_ = true;
    job_.hang_up(rank_);
  }

 protected:
  virtual void opened() = 0;
  virtual void stood_still() = 0;
  virtual void act_on(int from, SimMessage message) = 0;
  virtual void look_around(bool beat) = 0;  // all that has come is read
  virtual void goodbye() = 0;

  void yield() { process_.sleep(SimSpan(world_.random.in(1'000, 50'000))); }
  void trace(const std::string& what) { world_.trace(process_.name(), what); }

  SimJob& job_;
  const int rank_;
  SimProcess& process_;
  SimWorld& world_;

 private:
  void tick() {
    if (process_.dead() || closed_) return;
    if (process_.runs_from() > world_.now()) return world_.at(process_.runs_from(), [this] { tick(); });
    turn(true);
    world_.after(job_.options().beat, [this] { tick(); });
  }
  // The sockets of a paused process keep what comes for it.
  void turn_when_running() {
    if (process_.dead() || closed_ || !open_) return;
    if (process_.runs_from() > world_.now()) return world_.at(process_.runs_from(), [this] { turn_when_running(); });
    turn(false);
  }
  void turn(bool beat) {
    if (world_.now() - last_turn_ > job_.options().silence / 2) stood_still();
    last_turn_ = world_.now();
    while (!inbox_.empty()) {
      auto [from, message] = std::move(inbox_.front());
      inbox_.pop_front();
      act_on(from, std::move(message));
    }
    look_around(beat);
  }

  std::deque<std::pair<int, SimMessage>> inbox_;
  SimTime last_turn_ = {};
  bool open_ = false;
  bool closed_ = false;
};

class Leader final : public Node {
 public:
  explicit Leader(SimJob& job) : Node(job, 0), rounds_(job.size(), job.options().deadline), peers_(static_cast<size_t>(job.size())) {}

  Bytes round(std::string_view purpose, Bytes mine, const Combine& combine) override {
    yield();
    rounds_.arrive(0, purpose, std::move(mine), world_.now());
    throw_if_broken();
    while (!rounds_.complete() && !rounds_.broken()) process_.wait();
    throw_if_broken();
    Outcome<std::vector<Bytes>> combined = combine_with(combine);
    throw_if_broken();
    rounds_.answered();
    for (int r = 1; r < size(); ++r) {
      if (combined) job_.send(0, r, {.kind = Kind::part, .bytes = std::move((*combined.value)[static_cast<size_t>(r)])});
      else job_.send(0, r, {.kind = Kind::refusal, .fault = combined.fault});
    }
    trace("answered '" + std::string(purpose) + "'");
    return std::move(std::move(combined).or_throw().front());
  }
  void note(std::string_view doing) override {
    process_.check();
    rounds_.note(0, doing, world_.now());
  }
  void abort(const Fault& fault) override {
    process_.check();
    rounds_.break_with(fault);
    tell_if_broken();
  }
  std::optional<Fault> failure() override { return rounds_.broken(); }

 private:
  struct Peer {
    SimTime heard = {};
    uint64_t progress = 0;
    bool gone = false;
  };
  Peer& peer(int rank) { return peers_[static_cast<size_t>(rank)]; }

  void throw_if_broken() const {
    if (rounds_.broken()) throw Error(*rounds_.broken());
  }
  Outcome<std::vector<Bytes>> combine_with(const Combine& combine) {
    auto combined = capture([&] { return combine(rounds_.take_messages()); });
    process_.check();  // a dead leader answers nobody
    return combined;
  }

  void opened() override { stood_still(); }
  void stood_still() override {
    for (Peer& p : peers_) p.heard = world_.now();
  }
  void act_on(int from, SimMessage message) override {
    Peer& p = peer(from);
    p.heard = world_.now();
    switch (message.kind) {
      case Kind::part: rounds_.arrive(from, message.text, std::move(message.bytes), world_.now()); break;
      case Kind::beat:
        if (std::exchange(p.progress, message.progress) != message.progress) rounds_.note(from, message.text, world_.now());
        break;
      case Kind::abort: rounds_.break_with(message.fault); break;
      case Kind::bye:
        p.gone = true;
        rounds_.leave(from);
        break;
      case Kind::closed:
        if (!std::exchange(p.gone, true)) rounds_.lose(from, "its connection closed");
        break;
      case Kind::refusal: break;
    }
  }
  void look_around(bool beat) override {
    if (beat) {
      lose_the_silent();
      for (int r = 1; r < size(); ++r) job_.send(0, r, {.kind = Kind::beat, .text = rounds_.doing(0)});
      rounds_.check(world_.now());
    }
    tell_if_broken();
    if (rounds_.complete() || rounds_.broken()) process_.wake();
  }
  void lose_the_silent() {
    for (int r = 1; r < size(); ++r) {
      if (peer(r).gone || world_.now() - peer(r).heard <= job_.options().silence) continue;
      peer(r).gone = true;
      rounds_.lose(r, "it was silent for " + std::to_string(job_.options().silence.count()) + " ms");
    }
  }
  void tell_if_broken() {
    if (told_ || !rounds_.broken()) return;
    told_ = true;
    trace("broken: " + describe(*rounds_.broken()));
    for (int r = 1; r < size(); ++r) job_.send(0, r, {.kind = Kind::abort, .fault = *rounds_.broken()});
  }
  void goodbye() override {
    tell_if_broken();
    for (int r = 1; r < size(); ++r) job_.send(0, r, {.kind = Kind::bye});
  }

  RoundTable rounds_;
  std::vector<Peer> peers_;
  bool told_ = false;
};

class Follower final : public Node {
 public:
  Follower(SimJob& job, int rank) : Node(job, rank) {}

  Bytes round(std::string_view purpose, Bytes mine, const Combine&) override {
    yield();
    throw_if_broken();
    waiting_ = true;
    job_.send(rank_, 0, {.kind = Kind::part, .text = std::string(purpose), .bytes = std::move(mine)});
    while (!answer_ && !broken_ && !leader_left_) process_.wait();
    if (!answer_) throw_if_broken();
    return std::exchange(answer_, std::nullopt)->or_throw();
  }
  void note(std::string_view doing) override {
    process_.check();
    doing_ = doing;
    ++progress_;
  }
  void abort(const Fault& fault) override {
    process_.check();
    if (broken_) return;
    broken_ = fault;
    job_.send(rank_, 0, {.kind = Kind::abort, .fault = fault});
  }
  std::optional<Fault> failure() override { return broken_ ? broken_ : leader_left_; }

 private:
  void throw_if_broken() const {
    if (broken_) throw Error(*broken_);
    if (leader_left_) throw Error(*leader_left_);
  }
  void opened() override { stood_still(); }
  void stood_still() override { heard_ = world_.now(); }
  void act_on(int, SimMessage message) override {
    if (message.kind != Kind::closed) heard_ = world_.now();
    switch (message.kind) {
      case Kind::part: take_answer({std::move(message.bytes)}); break;
      case Kind::refusal: take_answer({std::nullopt, message.fault}); break;
      case Kind::beat: leader_doing_ = std::move(message.text); break;
      case Kind::abort: break_with(message.fault); break;
      case Kind::bye:
        leader_left_ = Fault{.code = Code::peer_lost, .what = "rank 0, the leader, is gone: it left while this rank needs it"};
        break;
      case Kind::closed: disconnected_ = true; break;
    }
  }
  void take_answer(Outcome<Bytes> answer) {
    if (std::exchange(waiting_, false)) answer_ = std::move(answer);
  }
  void look_around(bool beat) override {
    if (!leader_left_) {
      if (disconnected_) lose_leader("its connection closed");
      else if (world_.now() - heard_ > job_.options().silence)
        lose_leader("it was silent for " + std::to_string(job_.options().silence.count()) + " ms");
    }
    if (beat) job_.send(rank_, 0, {.kind = Kind::beat, .text = doing_, .progress = progress_});
    if (answer_ || broken_ || leader_left_) process_.wake();
  }
  void break_with(const Fault& fault) {
    if (!broken_) broken_ = fault;
  }
  void lose_leader(const std::string& how) {
    break_with({.code = Code::peer_lost, .what = "rank 0, the leader, is gone: " + how + "; last seen at: " + leader_doing_});
  }
  void goodbye() override { job_.send(rank_, 0, {.kind = Kind::bye}); }

  bool waiting_ = false;
  std::optional<Outcome<Bytes>> answer_;
  std::optional<Fault> broken_;
  std::optional<Fault> leader_left_;
  std::string doing_ = "joined";
  std::string leader_doing_ = "starting";
  uint64_t progress_ = 0;
  SimTime heard_ = {};
  bool disconnected_ = false;
};

}  // namespace

std::unique_ptr<SimNode> sim_leader(SimJob& job) { return std::make_unique<Leader>(job); }
std::unique_ptr<SimNode> sim_follower(SimJob& job, int rank) { return std::make_unique<Follower>(job, rank); }

}  // namespace tessera
