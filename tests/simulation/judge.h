// tests/simulation/judge.h: what must be true of a story, by what was seen from outside.
// Invariants  I1, I3 Whoever was told that its save went well finds the step, whole and its own; a step that is there is whole.
//             I4 No step goes away but by retention, and then only behind as many newer ones as are to be kept.
//             I6 Ranks that lived fail alike, or name who was lost; nobody hangs, and what was bearable fails nobody.
#pragma once

#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "tessera/checkpoint/catalog.h"
#include "tessera/storage/memory_storage.h"
#include "tests/simulation/story.h"

namespace tessera {

// What a job saves as a step can be told from what another does.
inline int64_t version_of(Step step, size_t job) { return step * 10 + static_cast<int64_t>(job); }

struct VerbSeen {
  std::string name;
  Step step = -1;
  SimTime begin = {};
  SimTime end = {};
  std::optional<Fault> fault = {};
  int64_t found = -1;  // a step, or a version
  bool whole = true;
  size_t skipped = 0;
};
struct RankSeen {
  std::vector<VerbSeen> verbs;
  bool dead = false;
  bool ended = false;
  int64_t storage_faults = 0;
};
struct Struck {
  Disturbance what;
  SimTime at;
};
struct JobSeen {
  size_t number = 0;
  Milliseconds deadline = {};
  std::vector<RankSeen> ranks;
  std::vector<Struck> struck;
};

// Stands beside the disk and sees what is really done to it.
class Witness {
 public:
  explicit Witness(const MemoryStorage& disk) : disk_(disk) {}
  // A step that must be there from now on.
  void expect(Step step) { expected_.insert(step); }
  void sees(int job, int keep_last, std::string_view operation, const Path& path);
  std::optional<Step> newest() const;
  const std::set<Step>& expected() const { return expected_; }
  const std::vector<std::string>& violations() const { return violations_; }

 private:
  const MemoryStorage& disk_;
  std::set<Step> expected_;
  std::map<Path, int> staged_by_;
  std::vector<std::string> violations_;
};

void judge_jobs(const StoryPlan& plan, const std::vector<JobSeen>& jobs, std::vector<std::string>& violations);
void judge_disk(const StoryPlan& plan, const std::shared_ptr<MemoryStorage>& disk, const std::vector<JobSeen>& jobs, Witness& witness,
                std::vector<std::string>& violations);
void judge_recovery(const StoryPlan& plan, const JobSeen& job, std::optional<Step> newest, std::vector<std::string>& violations);

}  // namespace tessera
