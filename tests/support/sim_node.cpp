#include "tests/support/sim_node.h"

#include <optional>
#include <set>

#include "tessera/comm/lines.h"

namespace tessera {
namespace {

using Kind = SimMessage::Kind;

// What both kinds do alike. A turn is what the network thread of a real rank does each time when it wakes.
class Node : public SimNode {
 public:
  Node(SimJob& job, int rank) : job(job), rank(rank), process(job.process(rank)), world(job.world()) {}

  void receive(int from, SimMessage message) final {
    if (process.dead() || closed_) return;
    inbox_.emplace_back(from, std::move(message));
    turn_when_running();
  }
  void open() final {
    last_turn_ = world.now();
    stood_still();
    open_ = true;
    tick();
  }
  void close() final {
    goodbye();
    closed_ = true;
    job.hang_up(rank);
  }

  // For the lines, which the body of the process uses.
  void yield() { process.sleep(SimSpan(world.random.in(1'000, 50'000))); }
  void wait_until(std::function<bool()> ready) {
    ready_ = std::move(ready);
    while (!ready_()) process.wait();
    ready_ = {};
  }
  void trace(const std::string& what) { world.trace(process.name(), what); }

  SimJob& job;
  const int rank;
  SimProcess& process;
  SimWorld& world;

 protected:
  virtual void stood_still() = 0;  // or begins: nobody was silent yet
  virtual void act_on(int from, SimMessage message) = 0;
  virtual void look_around(bool beat) = 0;  // all that has come is read
  virtual void goodbye() = 0;
  std::string silent() const { return "it was silent for " + std::to_string(job.options().silence.count()) + " ms"; }

 private:
  void tick() {
    if (process.dead() || closed_) return;
    if (process.runs_from() > world.now()) return world.at(process.runs_from(), [this] { tick(); });
    turn(true);
    world.after(job.options().beat, [this] { tick(); });
  }
  // The sockets of a paused process keep what comes for it.
  void turn_when_running() {
    if (process.dead() || closed_ || !open_) return;
    if (process.runs_from() > world.now()) return world.at(process.runs_from(), [this] { turn_when_running(); });
    turn(false);
  }
  void turn(bool beat) {
    if (world.now() - last_turn_ > job.options().silence / 2) stood_still();
    last_turn_ = world.now();
    while (!inbox_.empty()) {
      auto [from, message] = std::move(inbox_.front());
      inbox_.pop_front();
      act_on(from, std::move(message));
    }
    look_around(beat);
    if (ready_ && ready_()) process.wake();
  }

  std::deque<std::pair<int, SimMessage>> inbox_;
  std::function<bool()> ready_;  // what the body waits for
  SimTime last_turn_ = {};
  bool open_ = false;
  bool closed_ = false;
};

class Leader final : public Node {
 public:
  explicit Leader(SimJob& job) : Node(job, 0), lines(job.size(), job.options().deadline), peers_(static_cast<size_t>(job.size())) {}

  std::unique_ptr<Comm> comm() override;
  void send_to_all(const SimMessage& message) {
    for (int r = 1; r < job.size(); ++r) job.send(0, r, message);
  }
  void tell_if_broken() {
    for (const auto& [line, fault] : lines.broken_lines()) {
      if (!told_.insert(line).second) continue;
      trace("line " + std::to_string(line) + " broken: " + describe(fault));
      send_to_all({.kind = Kind::abort, .line = line, .fault = fault});
    }
  }

  Lines lines;

 private:
  struct Peer {
    SimTime heard = {};
    std::map<Lines::Number, uint64_t> progress = {};
    bool gone = false;
  };
  Peer& peer(int rank) { return peers_[static_cast<size_t>(rank)]; }

  void stood_still() override {
    for (Peer& p : peers_) p.heard = world.now();
  }
  void act_on(int from, SimMessage message) override {
    Peer& p = peer(from);
    p.heard = world.now();
    lines.hear(from, world.now());
    switch (message.kind) {
      case Kind::part: lines.arrive(from, message.line, message.text, std::move(message.bytes), world.now()); break;
      case Kind::beat:
        if (std::exchange(p.progress[message.line], message.progress) != message.progress) {
          lines.at(from, message.line).note(from, message.text, message.done_bytes, message.total_bytes, world.now());
        }
        break;
      case Kind::abort: lines.break_with(message.fault); break;
      case Kind::open: {
        const Lines::Number line = lines.open(from);
        const auto& broken = lines.at(from, line).broken();
        if (broken) job.send(0, from, {.kind = Kind::abort, .line = line, .fault = *broken});
        break;
      }
      case Kind::close: lines.leave(from, message.line); break;
      case Kind::bye:
        p.gone = true;
        lines.leave(from);
        break;
      case Kind::hung_up:
        if (!std::exchange(p.gone, true)) lines.lose(from, "its connection closed");
        break;
      case Kind::refusal: break;
    }
  }
  void look_around(bool beat) override {
    if (beat) {
      lose_the_silent();
      send_to_all({.kind = Kind::beat, .text = lines.doing(0)});
      lines.hear(0, world.now());
      lines.check(world.now());
    }
    tell_if_broken();
  }
  void lose_the_silent() {
    for (int r = 1; r < job.size(); ++r) {
      if (peer(r).gone || world.now() - peer(r).heard <= job.options().silence) continue;
      peer(r).gone = true;
      lines.lose(r, silent());
    }
  }
  void goodbye() override {
    tell_if_broken();
    send_to_all({.kind = Kind::bye});
  }

  std::vector<Peer> peers_;
  std::set<Lines::Number> told_;
};

class LeaderLine final : public Comm {
 public:
  LeaderLine(Leader& node, Lines::Number number) : node_(node), number_(number) {}
  ~LeaderLine() override {
    if (!node_.process.dead()) node_.lines.leave(0, number_);
  }
  int rank() const override { return 0; }
  int size() const override { return node_.job.size(); }

  Bytes round(std::string_view purpose, Bytes mine, const Combine& combine) override {
    node_.yield();
    node_.lines.arrive(0, number_, purpose, std::move(mine), node_.world.now());
    throw_if_broken();
    node_.wait_until([this] { return table().complete() || table().broken(); });
    throw_if_broken();
    Outcome<std::vector<Bytes>> combined = capture([&] { return combine(table().take_messages()); });
    node_.process.check();  // a dead leader answers nobody
    throw_if_broken();
    table().answered();
    for (int r = 1; r < size(); ++r) {
      if (combined)
        node_.job.send(0, r, {.kind = Kind::part, .line = number_, .bytes = std::move((*combined.value)[static_cast<size_t>(r)])});
      else node_.job.send(0, r, {.kind = Kind::refusal, .line = number_, .fault = combined.fault});
    }
    node_.trace("answered '" + std::string(purpose) + "'");
    return std::move(std::move(combined).or_throw().front());
  }
  void note(std::string_view doing, int64_t done_bytes, int64_t total_bytes) override {
    node_.process.check();
    table().note(0, doing, done_bytes, total_bytes, node_.world.now());
  }
  void abort(const Fault& fault) override {
    node_.process.check();
    node_.lines.break_with(fault);
    node_.tell_if_broken();
  }
  std::optional<Fault> failure() override { return table().broken(); }
  std::unique_ptr<Comm> line() override {
    node_.process.check();
    return std::make_unique<LeaderLine>(node_, node_.lines.open(0));
  }

 private:
  RoundTable& table() const { return node_.lines.at(0, number_); }
  void throw_if_broken() const {
    if (table().broken()) throw Error(*table().broken());
  }
  Leader& node_;
  const Lines::Number number_;
};

std::unique_ptr<Comm> Leader::comm() { return std::make_unique<LeaderLine>(*this, 0); }

// What the body and the network know of one line.
struct FollowersLine {
  bool waiting = false;
  std::optional<Outcome<Bytes>> answer = {};
  std::optional<Fault> broken = {};
  std::string doing = "joined";
  int64_t done_bytes = 0;
  int64_t total_bytes = 0;
  uint64_t progress = 0;
};

class Follower final : public Node {
 public:
  Follower(SimJob& job, int rank) : Node(job, rank) {}

  std::unique_ptr<Comm> comm() override;
  std::optional<Fault> failure_of(Lines::Number number) const {
    if (broken) return broken;
    const auto& line = lines.at(number);
    return line.broken ? line.broken : leader_left_;
  }
  void send(SimMessage message) { job.send(rank, 0, std::move(message)); }

  std::map<Lines::Number, FollowersLine> lines = {{0, {}}};
  Lines::Number next_line = 1;
  std::optional<Fault> broken;

 private:
  void stood_still() override { heard_ = world.now(); }
  void act_on(int, SimMessage message) override {
    if (message.kind != Kind::hung_up) heard_ = world.now();
    const auto line = lines.find(message.line);
    const auto take_answer = [&](Outcome<Bytes> answer) {
      if (line != lines.end() && std::exchange(line->second.waiting, false)) line->second.answer = std::move(answer);
    };
    switch (message.kind) {
      case Kind::part: take_answer({std::move(message.bytes)}); break;
      case Kind::refusal: take_answer({std::nullopt, message.fault}); break;
      case Kind::beat: leader_doing_ = std::move(message.text); break;
      case Kind::abort:
        if (message.line == 0) break_with(message.fault);
        else if (line != lines.end()) line->second.broken = message.fault;
        break;
      case Kind::bye:
        leader_left_ = Fault{.code = Code::peer_lost, .what = "rank 0, the leader, is gone: it left while this rank needs it"};
        break;
      case Kind::hung_up: disconnected_ = true; break;
      case Kind::open:
      case Kind::close: break;
    }
  }
  void look_around(bool beat) override {
    if (!leader_left_) {
      if (disconnected_) lose_leader("its connection closed");
      else if (world.now() - heard_ > job.options().silence) lose_leader(silent());
    }
    if (!beat) return;
    for (const auto& [number, line] : lines) {
      send({.kind = Kind::beat,
            .line = number,
            .text = line.doing,
            .progress = line.progress,
            .done_bytes = line.done_bytes,
            .total_bytes = line.total_bytes});
    }
  }
  void break_with(const Fault& fault) {
    if (!broken) broken = fault;
  }
  void lose_leader(const std::string& how) {
    if (std::exchange(lost_leader_, true)) return;
    const std::string who = "rank " + std::to_string(rank);
    send({.kind = Kind::abort, .fault = {.code = Code::peer_lost, .what = who + " is cut off: it hears nothing of the leader; " + how}});
    break_with({.code = Code::peer_lost, .what = "rank 0, the leader, is gone: " + how + "; last seen at: " + leader_doing_});
  }
  void goodbye() override { send({.kind = Kind::bye}); }

  std::optional<Fault> leader_left_;
  std::string leader_doing_ = "starting";
  SimTime heard_ = {};
  bool disconnected_ = false;
  bool lost_leader_ = false;
};

class FollowerLine final : public Comm {
 public:
  FollowerLine(Follower& node, Lines::Number number) : node_(node), number_(number) {}
  ~FollowerLine() override {
    if (node_.process.dead()) return;
    node_.lines.erase(number_);
    node_.send({.kind = Kind::close, .line = number_});
  }
  int rank() const override { return node_.rank; }
  int size() const override { return node_.job.size(); }

  Bytes round(std::string_view purpose, Bytes mine, const Combine&) override {
    node_.yield();
    if (const auto fault = failure()) throw Error(*fault);
    own().waiting = true;
    node_.send({.kind = Kind::part, .line = number_, .text = std::string(purpose), .bytes = std::move(mine)});
    node_.wait_until([this] { return own().answer || failure(); });
    if (!own().answer) throw Error(*failure());
    return std::exchange(own().answer, std::nullopt)->or_throw();
  }
  void note(std::string_view doing, int64_t done_bytes, int64_t total_bytes) override {
    node_.process.check();
    own().doing = doing;
    own().done_bytes = done_bytes;
    own().total_bytes = total_bytes;
    ++own().progress;
  }
  void abort(const Fault& fault) override {
    node_.process.check();
    if (node_.broken) return;
    node_.broken = fault;
    node_.send({.kind = Kind::abort, .fault = fault});
  }
  std::optional<Fault> failure() override { return node_.failure_of(number_); }
  std::unique_ptr<Comm> line() override {
    node_.process.check();
    if (node_.lines.size() >= most_lines) throw Error(too_many_lines(rank()));
    const Lines::Number opened = node_.next_line++;
    node_.lines[opened].doing = "opened line " + std::to_string(opened);
    node_.send({.kind = Kind::open, .line = opened});
    return std::make_unique<FollowerLine>(node_, opened);
  }

 private:
  FollowersLine& own() const { return node_.lines.at(number_); }
  Follower& node_;
  const Lines::Number number_;
};

std::unique_ptr<Comm> Follower::comm() { return std::make_unique<FollowerLine>(*this, 0); }

}  // namespace

std::unique_ptr<SimNode> sim_leader(SimJob& job) { return std::make_unique<Leader>(job); }
std::unique_ptr<SimNode> sim_follower(SimJob& job, int rank) { return std::make_unique<Follower>(job, rank); }

}  // namespace tessera
