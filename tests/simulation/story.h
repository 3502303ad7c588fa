// tests/simulation/story.h: what happens in one run of the simulation, drawn from its seed before it begins.
#pragma once

#include <map>
#include <vector>

#include "tests/simulation/tiny_state.h"
#include "tests/support/sim_storage.h"

namespace tessera {

// Something that befalls one process, at one of its steps or at a time.
struct Disturbance {
  enum class Kind : uint8_t {
    kill,
    pause,      // all of it stands still, as after SIGSTOP
    hang,       // its body stands still, its network thread does not
    partition,  // nothing passes between it and the leader
    cut,        // its connection closes
  };
  Kind kind = Kind::kill;
  int rank = 0;
  int64_t step = 0;  // 0: at `at`
  SimSpan at = {};   // since the job's begin
  SimSpan span = {};
};

// A training job: it looks for the latest step, loads it or not, and saves the next ones.
struct JobPlan {
  int ranks = 1;
  SimSpan begin = {};
  bool loads = true;
  int saves = 1;
  int keep_last = 0;
  std::vector<Disturbance> disturbances = {};
  std::map<int, std::vector<StorageTrouble>> troubles = {};  // by rank
};

struct StoryPlan {
  uint64_t seed = 0;
  TinyLayout layout;
  std::vector<JobPlan> jobs;  // the last one recovers after the others, undisturbed
};

StoryPlan plan_story(uint64_t seed, int ranks);

struct StoryEnd {
  uint64_t hash = 0;
  std::vector<std::string> violations;
  int kills = 0, pauses = 0, drops = 0, storage_faults = 0;
  int saved = 0, failed = 0;  // saves, as the leaders saw them
};

// Acts it out and holds the end against what must be true of it. `print` tells the story line by line.
StoryEnd act_out(const StoryPlan& plan, bool print = false);

}  // namespace tessera
