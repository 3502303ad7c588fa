// One rank of a job without LibTorch, for process_faults.py: it joins, saves or loads a small state, and stops at the point it is told.
//   save_rank save|load --rank R --size N --invitation FILE --root DIRECTORY [--step S] [--salt X] [--stop-at POINT] [--trace]
//             [--silence MS] [--deadline MS]
// Output      "at POINT" where it stops, until a line comes on standard input; with --trace "pass POINT" at every one. Last a line:
//             "saved S", "loaded S" (every bit is as it should be), or "failed CODE WHAT".
// A state is a function of step and salt, so that any rank of any later job can tell whether each bit of it is right. The salt is in it.
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <fstream>
#include <iostream>
#include <thread>

#include "tessera/checkpoint/checkpoints.h"
#include "tessera/comm/socket/socket_comm.h"
#include "tests/ranks/pausing_comm.h"

namespace tessera {
namespace {

struct Options {
  std::string verb;
  std::string invitation;
  std::string root;
  std::string stop_at;
  bool trace = false;
  Step step = 1;
  int64_t salt = 0;
  SocketOptions socket;
};

void say(const std::string& line) {
  std::fputs((line + "\n").c_str(), stdout);
  std::fflush(stdout);
}

void reach(const Options& options, const std::string& point) {
  if (options.trace) say("pass " + point);
  if (point != options.stop_at) return;
  say("at " + point);
  std::string go;
  std::getline(std::cin, go);
}

// The invitation is a file that appears whole.
void put_invitation(const Options& options, const std::string& text) {
  const std::string part = options.invitation + ".part";
  std::ofstream(part) << text;
  if (::rename(part.c_str(), options.invitation.c_str()) != 0) throw Error(os_fault(errno, "rename", options.invitation));
}
std::string wait_for_invitation(const Options& options) {
  const Deadline deadline = Deadline::after(options.socket.deadline);
  while (!deadline.expired()) {
    std::string text;
    if (std::getline(std::ifstream(options.invitation), text)) return text;
    std::this_thread::sleep_for(Milliseconds(5));
  }
  throw Error({.code = Code::timeout, .what = "rank 0, the leader, left no invitation"});
}

std::unique_ptr<Comm> join(const Options& options) {
  reach(options, "join.before");
  std::unique_ptr<Comm> comm;
  if (options.socket.rank == 0) {
    SocketLeader leader = socket_leader({}, options.socket);
    put_invitation(options, leader.invitation);
    comm = std::move(leader.comm);
  } else {
    comm = socket_follower(wait_for_invitation(options), options.socket);
  }
  reach(options, "join.after");
  return comm;
}

constexpr int64_t rows = 1200;
constexpr int64_t columns = 257;

// A state in memory of its own: a tensor whose rows are spread over the ranks, one that all hold, and objects.
class State {
 public:
  State(int rank, int size) {
    const int64_t first = rows * rank / size;
    const int64_t last = rows * (rank + 1) / size;
    add_tensor("model.weight", {rows, columns}, {{first, 0}, {last - first, columns}});
    add_tensor("model.bias", {columns}, {{0}, {columns}});
    dict_.add("step", Value{int64_t{-1}});
    dict_.add("salt", Value{int64_t{-1}});
  }

  StateDict& dict() { return dict_; }
  void fill(Step step, int64_t salt) {
    for_each_element([&](int64_t& element, int64_t index) { element = expected(index, step, salt); });
    dict_.leaves.at("step").is = Value{step};
    dict_.leaves.at("salt").is = Value{salt};
  }
  // Throws Error(corrupt) unless every bit is what fill() of that step would have put there.
  void check(Step step) {
    const auto salt = std::get<int64_t>(std::get<Value>(dict_.leaves.at("salt").is).is);
    if (std::get<Value>(dict_.leaves.at("step").is) != Value{step}) throw wrong("the step is another");
    for_each_element([&](const int64_t& element, int64_t index) {
      if (element != expected(index, step, salt)) throw wrong("element " + std::to_string(index) + " is wrong");
    });
  }

 private:
  static Error wrong(std::string what) { return Error({.code = Code::corrupt, .what = "WRONG BITS: " + std::move(what)}); }
  static int64_t expected(int64_t index, Step step, int64_t salt) {
    auto mixed = static_cast<uint64_t>(index) * 0x9e3779b97f4a7c15U + static_cast<uint64_t>(step * 1000 + salt) * 0xbf58476d1ce4e5b9U;
    mixed ^= mixed >> 29;
    return static_cast<int64_t>(mixed * 0x94d049bb133111ebU);
  }
  void add_tensor(const std::string& key, Sizes sizes, Box box) {
    std::vector<int64_t>& memory = memory_.emplace_back(static_cast<size_t>(volume(box.sizes)), -1);
    first_.push_back(box.offsets.front() * (sizes.size() > 1 ? sizes.back() : 1));
    const View view = dense_view(reinterpret_cast<std::byte*>(memory.data()), DType::int64, box.sizes);
    dict_.add(key, TensorLeaf{.dtype = DType::int64, .sizes = std::move(sizes), .shards = {{std::move(box), view}}});
  }
  template <class Work>
  void for_each_element(Work work) {
    for (size_t t = 0; t < memory_.size(); ++t) {
      for (size_t i = 0; i < memory_[t].size(); ++i) work(memory_[t][i], first_[t] + static_cast<int64_t>(i));
    }
  }

  std::vector<std::vector<int64_t>> memory_;  // a tensor each
  std::vector<int64_t> first_;                // the place of its first element in the whole tensor
  StateDict dict_;
};

void work(const Options& options) {
  const auto joined = join(options);
  PausingComm comm(*joined, [&](const std::string& point) { reach(options, point); });
  Checkpoints checkpoints(comm, options.root);
  State state(options.socket.rank, options.socket.size);
  if (options.verb == "save") {
    state.fill(options.step, options.salt);
    checkpoints.save(options.step, state.dict());
    say("saved " + std::to_string(options.step));
  } else {
    const auto step = checkpoints.latest();
    if (!step) throw Error({.code = Code::not_found, .what = "no step"});
    checkpoints.load(*step, state.dict());
    state.check(*step);
    say("loaded " + std::to_string(*step));
  }
  reach(options, "end");
}

}  // namespace
}  // namespace tessera

int main(int argc, char** argv) {
  tessera::Options options;
  int silence_ms = 1500;
  int deadline_ms = 3000;
  CLI::App app("One rank of a job, which stops where it is told.");
  app.add_option("verb", options.verb)->required()->check(CLI::IsMember({"save", "load"}));
  app.add_option("--rank", options.socket.rank)->required();
  app.add_option("--size", options.socket.size)->required();
  app.add_option("--invitation", options.invitation)->required();
  app.add_option("--root", options.root)->required();
  app.add_option("--step", options.step);
  app.add_option("--salt", options.salt);
  app.add_option("--stop-at", options.stop_at);
  app.add_flag("--trace", options.trace);
  app.add_option("--silence", silence_ms);
  app.add_option("--deadline", deadline_ms);
  CLI11_PARSE(app, argc, argv);
  options.socket.silence = tessera::Milliseconds(silence_ms);
  options.socket.deadline = tessera::Milliseconds(deadline_ms);
  const auto done = tessera::capture([&] { tessera::work(options); });
  if (done) return 0;
  tessera::say(std::string("failed ") + tessera::name(done.fault.code) + " " + tessera::describe(done.fault));
  return tessera::exit_code(done.fault.code);
}
