// bench/measure.h: what the programs of the bench measure with: wall and CPU seconds of the process, its peak memory, what it read.
// Units       Seconds, bytes. CPU seconds are those of all threads of the process, user and kernel.
#pragma once

#include <sys/resource.h>

#include <chrono>
#include <cstdio>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>
#include <vector>

#include "tessera/comm/thread_comm.h"

namespace tessera::bench {

inline double cpu_seconds() {
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& t) { return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_usec) * 1e-6; };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

inline int64_t peak_rss_bytes() {
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  return usage.ru_maxrss * 1024;
}

// Pages that the kernel has given to the process so far, each filled with zeros or taken from the page cache.
inline int64_t page_faults() {
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  return usage.ru_minflt;
}

// What the process has read so far, from anywhere: by system calls ("rchar"), or from storage ("read_bytes", which leaves out what the
// page cache had). 0 where the kernel does not tell.
inline int64_t bytes_read_so_far(const std::string& what) {
  std::ifstream io("/proc/self/io");
  std::string name;
  for (int64_t value = 0; io >> name >> value;) {
    if (name == what + ":") return value;
  }
  return 0;
}

// The costs of one thing, a round each.
struct Costs {
  std::vector<double> wall_s, cpu_s;
};

inline void to_json(nlohmann::json& json, const Costs& costs) { json = {{"wall_s", costs.wall_s}, {"cpu_s", costs.cpu_s}}; }

template <class Work>
void timed(Costs& costs, Work work) {
  const double cpu = cpu_seconds();
  const auto begin = std::chrono::steady_clock::now();
  work();
  costs.wall_s.push_back(std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count());
  costs.cpu_s.push_back(cpu_seconds() - cpu);
}

// body(number) on so many threads; what one throws is thrown.
template <class Body>
void on_threads(int threads, Body body) {
  std::vector<Outcome<Done>> outcomes(static_cast<size_t>(threads));
  std::vector<std::thread> running;
  for (int t = 0; t < threads; ++t) running.emplace_back([&, t] { outcomes[static_cast<size_t>(t)] = capture([&] { body(t); }); });
  for (auto& thread : running) thread.join();
  for (auto& outcome : outcomes) outcome.or_throw();
}

// body(comm) on ranks that are threads.
template <class Body>
void on_ranks(int ranks, Body body) {
  const auto comms = thread_comms(ranks);
  on_threads(ranks, [&](int rank) { body(*comms[static_cast<size_t>(rank)]); });
}

// A program's exit code; what it throws goes to stderr.
template <class Run>
int run_program(const char* name, Run run) {
  try {
    run();
    return 0;
  } catch (...) {
    std::fprintf(stderr, "%s: %s\n", name, describe(fault_of(std::current_exception())).c_str());
    return 1;
  }
}

}  // namespace tessera::bench
