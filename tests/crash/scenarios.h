// tests/crash/scenarios.h: what a job does when something happens to it.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "tests/crash/job.h"

namespace tessera {

struct Scenario {
  std::string name;
  SimDiskOptions disk = {};
  // What went well before; on return all of it is durable.
  std::function<void(SimDisk&, Job&)> before = [](SimDisk&, Job&) {};
  // What something happens to. Stops at the first that fails, as a job does.
  std::function<bool(Job&)> work;
  // What the next run does, on the disk that it finds. False: it cannot, and may say so.
  std::function<bool(Job&)> after = {};
  bool after_may_refuse = false;
  bool has_phases = true;  // a conversion has no ranks, and so none
};
const std::vector<Scenario>& scenarios();

// The disk and the promises with which a scenario's work begins.
struct Start {
  DiskImage image;
  Promises promises;
};
Start start_of(const Scenario& scenario, int ranks);

// Counted, and printed in one line at a test's end.
struct Counts {
  int64_t tried = 0;
  int64_t broken = 0;
};
void print(const Counts& counts, const std::string& what);

}  // namespace tessera
