#include <ATen/Parallel.h>

#include <thread>

#include "tessera/collectives/job.h"
#include "tessera/collectives/job_state.h"
#include "tessera/collectives/thread_collectives.h"
#include "tessera/collectives/through_host.h"
#include "tessera/comm/on_every_rank.h"
#include "tessera/comm/thread_comm.h"

namespace tessera {
namespace {

std::vector<Job> thread_jobs(int ranks, const std::shared_ptr<Turns>& turns, const JobOptions& options) {
  auto comms = thread_comms(ranks, options.control_deadline);
  auto collectives = thread_collectives(ranks, options.data_deadline);
  std::vector<Job> jobs;
  for (size_t r = 0; r < comms.size(); ++r) {
    collectives[r] = through_host(std::move(collectives[r]));
    if (options.around) collectives[r] = options.around(std::move(collectives[r]));
    jobs.emplace_back(
        std::make_shared<Job::State>(options, turns, nullptr, std::move(comms[r]), std::move(collectives[r]), static_cast<int>(r)));
  }
  return jobs;
}

}  // namespace

Job lone_job(const JobOptions& options) { return thread_jobs(1, nullptr, options).front(); }

void run_ranks(int n, const std::function<void(Job&)>& body, const JobOptions& options) {
  if (n < 1) throw Error({.code = Code::invalid_argument, .what = "a job of " + std::to_string(n) + " ranks"});
  const auto turns = std::make_shared<Turns>(n);
  std::vector<Job> jobs = thread_jobs(n, turns, options);
  std::vector<Outcome<Done>> outcomes(jobs.size());
  const int threads_before = at::get_num_threads();
  // The others are told whose fault it is; their own Faults then say only that another rank failed.
  const auto fail = [&](size_t r, const Job& job) {
    const Fault told{.code = Code::aborted, .what = "rank " + std::to_string(r) + " failed: " + describe(outcomes[r].fault)};
    job.comm().abort(told);
    job.collectives().abort(told);
    turns->table.with([&](Turns::Table& table) { table.aborted = told; });
  };
  const auto live = [&](size_t r) {
    at::set_num_threads(1);
    Job job = std::move(jobs[r]);  // gone when the body is over: whoever still waits for this rank learns so
    outcomes[r] = capture([&] { body(job); });
    if (!outcomes[r]) fail(r, job);
  };
  std::vector<std::thread> threads;
  for (size_t r = 0; r < jobs.size(); ++r) {
    const auto started = capture([&] { threads.emplace_back(live, r); });
    if (started) continue;
    outcomes.resize(r + 1);
    outcomes[r].fault = started.fault;
    fail(r, jobs[r]);
    break;
  }
  for (std::thread& thread : threads) thread.join();
  at::set_num_threads(threads_before);
  std::vector<std::pair<int, Fault>> faults;
  for (size_t r = 0; r < outcomes.size(); ++r) {
    if (!outcomes[r]) faults.emplace_back(static_cast<int>(r), outcomes[r].fault);
  }
  if (!faults.empty()) throw Error(root_cause(faults, Phase::none));
}

}  // namespace tessera
