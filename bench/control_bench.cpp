// bench/control_bench.cpp: what ranks say to each other in a save when one like it went before: bytes that a rank sends and gets, and the
// time of the rounds. Ranks are threads that save to memory, each a row of every tensor. Prints one JSON object.
//   control_bench [--ranks 256] [--tensors 64] [--rounds 3]
#include <CLI/CLI.hpp>
#include <algorithm>

#include "bench/measure.h"
#include "bench/states.h"
#include "tessera/checkpoint/plan_cache.h"
#include "tessera/checkpoint/save.h"
#include "tessera/storage/memory_storage.h"

namespace {

using namespace tessera;
using namespace tessera::bench;

struct Options {
  int ranks = 256;
  int tensors = 64;
  int rounds = 3;
};

// Counts what passes through a rank's rounds.
class CountingComm : public Comm {
 public:
  explicit CountingComm(std::unique_ptr<Comm> comm) : comm_(std::move(comm)) {}
  int rank() const override { return comm_->rank(); }
  int size() const override { return comm_->size(); }
  Bytes round(std::string_view purpose, Bytes mine, const Combine& combine) override {
    ++rounds_;
    sent_bytes_ += static_cast<int64_t>(mine.size());
    Bytes answer = comm_->round(purpose, std::move(mine), combine);
    received_bytes_ += static_cast<int64_t>(answer.size());
    return answer;
  }
  using Comm::note;
  void note(std::string_view doing, int64_t done, int64_t total) override { comm_->note(doing, done, total); }
  void abort(const Fault& fault) override { comm_->abort(fault); }
  std::optional<Fault> failure() override { return comm_->failure(); }
  std::unique_ptr<Comm> line() override { return comm_->line(); }

  void begin() { rounds_ = sent_bytes_ = received_bytes_ = 0; }
  int64_t rounds() const { return rounds_; }
  int64_t sent_bytes() const { return sent_bytes_; }
  int64_t received_bytes() const { return received_bytes_; }

 private:
  std::unique_ptr<Comm> comm_;
  int64_t rounds_ = 0, sent_bytes_ = 0, received_bytes_ = 0;
};

void run(const Options& options) {
  std::vector<Tensor> tensors;
  for (int t = 0; t < options.tensors; ++t) tensors.push_back({"layers." + std::to_string(t) + ".weight", {options.ranks, 16}});
  auto states = rank_states(tensors, cut_along(0, options.ranks), options.ranks, Fill::content);
  std::vector<CountingComm> comms;
  for (auto& comm : thread_comms(options.ranks)) comms.emplace_back(std::move(comm));
  std::vector<std::shared_ptr<PlanCache>> plans;
  for (int rank = 0; rank < options.ranks; ++rank) plans.push_back(std::make_shared<PlanCache>());
  MemoryStorage storage;
  // The leader's seconds by phase; the others wait for it.
  std::vector<double> plan_s, write_s, publish_s;
  Costs costs;
  for (int round = 0; round <= options.rounds; ++round) {
    if (round == 1) plan_s.clear(), write_s.clear(), publish_s.clear(), costs = {};  // the first had nothing to stand on
    SaveReport report;
    timed(costs, [&] {
      on_threads(options.ranks, [&](int rank) {
        const auto r = static_cast<size_t>(rank);
        barrier(comms[r], "begin");  // every thread is there
        comms[r].begin();
        const SaveReport mine = save(comms[r], storage, "step-" + std::to_string(round), states[r].state(), {.plans = plans[r]});
        if (rank == 0) report = mine;
      });
    });
    if (round > 0 && report.planned != Planned::reused)
      throw Error({.code = Code::internal, .what = "a save like the one before planned afresh"});
    plan_s.push_back(report.plan_seconds);
    write_s.push_back(report.write_seconds);
    publish_s.push_back(report.publish_seconds);
  }
  int64_t sent = 0, received = 0;
  for (const CountingComm& comm : comms) {
    sent = std::max(sent, comm.sent_bytes());
    received = std::max(received, comm.received_bytes());
  }
  std::printf("%s\n", nlohmann::json{{"ranks", options.ranks},
                                     {"tensors", options.tensors},
                                     {"rounds_of_a_save", comms[0].rounds()},
                                     {"sent_bytes", sent},
                                     {"received_bytes", received},
                                     {"save", costs},
                                     {"plan_s", plan_s},
                                     {"write_s", write_s},
                                     {"publish_s", publish_s}}
                          .dump()
                          .c_str());
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  CLI::App app("Counts what ranks say to each other in a save.");
  app.add_option("--ranks", options.ranks)->check(CLI::Range(1, 4096))->capture_default_str();
  app.add_option("--tensors", options.tensors)->check(CLI::Range(1, 1 << 20))->capture_default_str();
  app.add_option("--rounds", options.rounds)->check(CLI::Range(1, 1000))->capture_default_str();
  CLI11_PARSE(app, argc, argv);
  return run_program("control_bench", [&] { run(options); });
}
