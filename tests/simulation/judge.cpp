#include "tests/simulation/judge.h"

#include <algorithm>

#include "tessera/storage/names.h"

namespace tessera {
namespace {

using Kind = Disturbance::Kind;
constexpr SimSpan grace = std::chrono::seconds(5);

bool lost(const Fault& fault) { return fault.code == Code::peer_lost || fault.code == Code::timeout || fault.code == Code::aborted; }

std::string who(const JobSeen& job, size_t rank) {
  return std::string("job ") + static_cast<char>('a' + job.number) + ", rank " + std::to_string(rank);
}

// The ranks that something befell which others may take for a loss.
std::set<int> suspects(const JobPlan& plan, const JobSeen& job) {
  std::set<int> ranks;
  for (const Struck& struck : job.struck) ranks.insert(struck.what.rank);
  for (const auto& [rank, troubles] : plan.troubles) {
    if (std::ranges::any_of(troubles, [](const StorageTrouble& t) { return t.takes != SimSpan{}; })) ranks.insert(rank);
  }
  return ranks;
}

// True if all that befell the job together is less than what makes a rank lost or late, and its storage told no errors.
bool bearable(const JobPlan& plan, const JobSeen& job) {
  SimSpan silent = {};
  SimSpan late = {};
  for (const Struck& struck : job.struck) {
    if (struck.what.kind == Kind::kill || struck.what.kind == Kind::cut) return false;
    if (struck.what.kind != Kind::hang) silent += struck.what.span;
    late += struck.what.span;
  }
  for (const auto& [rank, troubles] : plan.troubles) {
    for (const StorageTrouble& trouble : troubles) late += trouble.takes;
  }
  for (const RankSeen& rank : job.ranks) {
    if (rank.storage_faults > 0) return false;
  }
  return silent < std::chrono::seconds(8) && late < std::chrono::seconds(25);
}

bool names(const Fault& fault, int rank) {
  const std::string number = "rank " + std::to_string(rank);
  for (const char* const how : {" is gone", " is cut off", ",", " was last seen"}) {
    if (fault.what.find(number + how) != std::string::npos) return true;
  }
  return false;
}

// The n-th verb as the ranks that lived saw it.
void judge_verb(const JobPlan& plan, const JobSeen& job, size_t n, bool alone, std::vector<std::string>& violations) {
  const std::set<int> suspected = suspects(plan, job);
  const bool calm = suspected.empty();
  std::optional<Fault> root;
  bool went_well = false;
  bool failed = false;
  SimTime begin = {};
  for (const RankSeen& rank : job.ranks) {
    if (n < rank.verbs.size()) begin = std::max(begin, rank.verbs[n].begin);
  }
  for (size_t r = 0; r < job.ranks.size(); ++r) {
    const RankSeen& rank = job.ranks[r];
    if (n >= rank.verbs.size()) continue;
    const VerbSeen& verb = rank.verbs[n];
    const auto tell = [&](const std::string& what) {
      violations.push_back(who(job, r) + ", " + verb.name + " " + std::to_string(verb.step) + ": " + what +
                           (verb.fault ? ": " + describe(*verb.fault) : ""));
    };
    const bool mine = suspected.contains(static_cast<int>(r));
    if (verb.name == "load" && !verb.fault && !verb.whole) tell("it loaded something else than what was saved");
    if (verb.name == "latest" && !verb.fault && verb.found < 0) tell("no step found");
    // In time: since the verb began, or since the last blow before its end.
    SimTime since = begin;
    for (const Struck& struck : job.struck) {
      if (struck.at <= verb.end) since = std::max(since, struck.at + std::min<SimSpan>(struck.what.span, job.deadline));
    }
    for (const auto& [owner, troubles] : plan.troubles) {
      for (const StorageTrouble& t : troubles) since = std::max(since, begin + std::min<SimSpan>(t.takes, job.deadline));
    }
    if (!mine && verb.end - since > job.deadline + grace) tell("too late");
    if (!verb.fault) {
      went_well = true;
      continue;
    }
    failed = true;
    const Fault& fault = *verb.fault;
    if (fault.code == Code::internal) tell("an error that is none of ours");
    if (!lost(fault)) {
      if (!root) root = fault;
      if (*root != fault) tell("others have another cause, " + describe(*root));
      if (fault.rank < 0) tell("it does not say on which rank");
      continue;
    }
    if (calm) tell("nobody was lost");
    const bool named = std::ranges::any_of(suspected, [&](int suspect) { return names(fault, suspect); });
    if (!named && !mine && !suspected.contains(0)) tell("it names nobody who was lost");
  }
  if (went_well && failed && calm) {
    violations.push_back(who(job, 0) + ": verb " + std::to_string(n) +
                         " went well on some ranks and failed on others, though none was lost");
  }
  if (failed && alone && bearable(plan, job)) {
    violations.push_back(who(job, 0) + ": verb " + std::to_string(n) + " failed though all could be borne");
  }
}

}  // namespace

void Witness::sees(int job, int keep_last, std::string_view operation, const Path& path) {
  const std::string name = path.substr(0, path.find('/'));
  if (operation == "create" && is_staging_name(name)) staged_by_.try_emplace(name, job);
  if (operation == "commit") expected_.insert(*step_named(path));
  if (operation != "remove") return;
  if (const auto owner = staged_by_.find(name); owner != staged_by_.end() && owner->second != job) {
    violations_.push_back("a job removes what another stages");
  }
  const auto step = step_named(path);
  if (!step) return;
  const auto steps = steps_of(disk_);
  const auto newer = std::ranges::count_if(steps, [&](Step other) { return other > *step; });
  if (keep_last == 0 || newer < keep_last) {
    violations_.push_back(path + " is removed while only " + std::to_string(newer) + " newer steps are there");
  }
  expected_.erase(*step);
}

std::optional<Step> Witness::newest() const {
  const auto steps = steps_of(disk_);
  return steps.empty() ? std::nullopt : std::optional(steps.back());
}

void judge_jobs(const StoryPlan& plan, const std::vector<JobSeen>& jobs, std::vector<std::string>& violations) {
  for (const JobSeen& job : jobs) {
    size_t verbs = 0;
    for (size_t r = 0; r < job.ranks.size(); ++r) {
      verbs = std::max(verbs, job.ranks[r].verbs.size());
      if (!job.ranks[r].ended) violations.push_back(who(job, r) + " never ended");
    }
    for (size_t n = 0; n < verbs; ++n) judge_verb(plan.jobs[job.number], job, n, jobs.size() == 1, violations);
  }
}

void judge_disk(const StoryPlan& plan, const std::shared_ptr<MemoryStorage>& disk, const std::vector<JobSeen>& jobs, Witness& witness,
                std::vector<std::string>& violations) {
  std::map<Step, int64_t> there;
  for (const Step step : steps_of(*disk)) {
    std::string why;
    const auto version = whole_version(disk, step_name(step), plan.layout, why);
    if (!version) violations.push_back(step_name(step) + " is not whole: " + why);
    else if (*version / 10 != step) violations.push_back(step_name(step) + " holds another step");
    there[step] = version.value_or(-1);
  }
  for (const Step step : witness.expected()) {
    if (there.contains(step)) continue;
    const bool old = step <= 2;
    if (old) violations.push_back(step_name(step) + " stood before, and is gone");
  }
  bool may_leave = false;  // staging directories
  for (const JobSeen& job : jobs) {
    for (size_t r = 0; r < job.ranks.size(); ++r) {
      for (const VerbSeen& verb : job.ranks[r].verbs) {
        if (verb.name != "save" || verb.fault) continue;
        if (there.contains(verb.step) ? there[verb.step] != version_of(verb.step, job.number) : witness.expected().contains(verb.step)) {
          violations.push_back(who(job, r) + " was told that its step " + std::to_string(verb.step) + " was saved");
        }
      }
    }
    may_leave |= job.ranks.front().dead || job.ranks.front().storage_faults > 0;
  }
  for (const DirectoryEntry& entry : disk->list("")) {
    if (step_named(entry.name) || may_leave) continue;
    violations.push_back("a staging directory is left though every leader lived");
  }
  for (const std::string& violation : witness.violations()) violations.push_back(violation);
}

void judge_recovery(const StoryPlan& plan, const JobSeen& job, std::optional<Step> newest, std::vector<std::string>& violations) {
  judge_jobs(plan, {job}, violations);
  for (size_t r = 0; r < job.ranks.size(); ++r) {
    const auto& verbs = job.ranks[r].verbs;
    for (const VerbSeen& verb : verbs) {
      if (verb.fault) violations.push_back(who(job, r) + ": recovery failed: " + describe(*verb.fault));
    }
    if (verbs.empty() || verbs.front().found != newest.value_or(-1))
      violations.push_back(who(job, r) + ": latest() is not the newest step");
  }
}

}  // namespace tessera
