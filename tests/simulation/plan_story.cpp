#include <array>
#include <cerrno>

#include "tests/simulation/story.h"

namespace tessera {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

// Below what makes a loss of it, or clearly above.
SimSpan short_or_long(SeededRandom& random, seconds bearable, seconds unbearable) {
  return random.chance(2) ? milliseconds(random.in(1, milliseconds(bearable).count())) : unbearable + milliseconds(random.in(0, 60'000));
}

// The leader is one of many and does half of what can go wrong.
int any_rank(SeededRandom& random, int ranks) { return random.chance(2) ? 0 : static_cast<int>(random.in(0, ranks)); }

// How often a rank of the job sleeps or waits, by and large.
int64_t about_steps(const JobPlan& job, int rank, const TinyLayout& layout) {
  const int64_t files = rank == 0 ? 12 + layout.owners : rank < layout.owners ? 8 : 2;
  return 4 + job.saves * (8 + files) + (job.loads ? 12 : 0);
}

Disturbance any_disturbance(SeededRandom& random, const JobPlan& job, const TinyLayout& layout) {
  using Kind = Disturbance::Kind;
  constexpr std::array kinds = {Kind::kill, Kind::kill, Kind::kill, Kind::pause, Kind::pause, Kind::hang, Kind::partition, Kind::cut};
  Disturbance d{.kind = random.one_of(kinds), .rank = any_rank(random, job.ranks)};
  const bool on_line = d.kind == Kind::partition || d.kind == Kind::cut;
  if (on_line && d.rank == 0) d.rank = static_cast<int>(random.in(0, job.ranks));
  if (on_line || random.chance(4)) d.at = milliseconds(random.in(0, random.chance(2) ? 500 : 15'000));
  else d.step = random.in(1, about_steps(job, d.rank, layout));
  if (d.kind == Kind::pause || d.kind == Kind::partition) d.span = short_or_long(random, seconds(7), seconds(12));
  if (d.kind == Kind::hang) d.span = short_or_long(random, seconds(18), seconds(35));
  return d;
}

StorageTrouble any_trouble(SeededRandom& random, int rank, const TinyLayout& layout) {
  // Not ENOENT: it says that nothing is there, and that must be true.
  constexpr std::array errnos = {EIO, ENOSPC, EDQUOT, EACCES, EROFS, ESTALE, EMFILE, ENFILE, ENOMEM, ETIMEDOUT};
  StorageTrouble trouble{.operation = random.in(0, rank == 0 ? 40 + layout.owners : 12)};
  if (random.chance(4)) {
    trouble.takes = short_or_long(random, seconds(18), seconds(35));
    return trouble;
  }
  trouble.os_errno = random.one_of(errnos);
  trouble.for_ever = random.chance(3);
  trouble.after_effect = random.chance(4);
  return trouble;
}

TinyLayout any_layout(SeededRandom& random, int ranks) {
  TinyLayout layout;
  constexpr std::array owners = {1, 2, 3, 5, 8, 16};
  layout.owners = random.chance(8) ? ranks : random.one_of(owners);
  layout.rows = layout.owners + random.in(0, 5);
  layout.flat_owners = static_cast<int>(random.in(1, 5));
  layout.rank_local = random.chance(10);
  return layout;
}

}  // namespace

StoryPlan plan_story(uint64_t seed, int ranks) {
  SeededRandom random(seed);
  StoryPlan plan{.seed = seed, .layout = any_layout(random, ranks)};
  JobPlan& job = plan.jobs.emplace_back();
  job = {.ranks = ranks,
         .loads = random.chance(3),
         .saves = static_cast<int>(random.in(1, 3)),
         .keep_last = static_cast<int>(random.in(0, 4))};
  for (int64_t n = random.in(0, 5); n > 0; --n) job.disturbances.push_back(any_disturbance(random, job, plan.layout));
  for (int64_t n = random.chance(2) ? random.in(1, 3) : 0; n > 0; --n) {
    const int rank = any_rank(random, ranks);
    job.troubles[rank].push_back(any_trouble(random, rank, plan.layout));
  }
  if (random.chance(4)) {  // somebody starts the job once more while it runs, or hangs
    plan.jobs.push_back({.ranks = static_cast<int>(random.in(1, 9)),
                         .begin = milliseconds(random.in(0, random.chance(2) ? 1'000 : 40'000)),
                         .loads = random.chance(2),
                         .keep_last = job.keep_last});
  }
  plan.jobs.push_back({.ranks = static_cast<int>(random.in(1, 5)), .keep_last = job.keep_last});
  return plan;
}

}  // namespace tessera
