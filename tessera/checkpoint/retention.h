// tessera/checkpoint/retention.h: which steps of a root may go when a newer one stands.
// Keeps       The newest `keep_last`, every `keep_every`-th, the best by a metric, what is pinned: a step goes only if none of these keeps
//             it. Without any rule all stay.
// Invariants  I4 The newest step stays, the newest sound one too, and the one just published. A damaged step counts for no rule and is
//             never removed by one: it is for a person to look at. Nothing goes unless the step just published was found sound.
// Errors      A step that cannot be removed is told in the report and harms nobody.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "tessera/checkpoint/catalog.h"
#include "tessera/checkpoint/verify.h"

namespace tessera {

struct KeepBest {
  std::string metric;  // as in SaveOptions::metrics
  int count = 1;
  bool higher_is_better = false;
};

struct Retention {
  int keep_last = 0;    // the newest so many; 0 is no rule
  Step keep_every = 0;  // steps that this divides; 0 is no rule
  std::optional<KeepBest> keep_best = {};
};
bool has_rules(const Retention& rules);
// Error(invalid_argument) for rules that make no sense.
void check(const Retention& rules);

// What is known of a step.
struct StepFacts {
  Step step = 0;
  bool sound = true;
  bool pinned = false;
  std::map<std::string, double> metrics = {};
};

// The steps that may go, ascending. A pure function. Of equal metrics the newer step is the better; one that is no number is none.
std::vector<Step> expired(const std::vector<StepFacts>& steps, const Retention& rules, std::optional<Step> published = {});

struct RetainOptions {
  bool dry_run = false;                          // removes nothing
  Depth depth = Depth::names_and_sizes;          // how deep to look at the steps that stay for being the newest
  std::function<void(Step step)> looks_at = {};  // told before a step is looked at or removed: others may wait meanwhile
};
struct RetentionReport {
  std::vector<Step> removed;  // or that would be
  std::vector<std::string> warnings;
};
// Looks at the names and sizes of the steps that the rules ask about, and removes what has expired: by rename to trash, then for good. One
// process's work. Throws only where the root cannot be listed.
RetentionReport retain(const std::shared_ptr<Storage>& storage, const Retention& rules, std::optional<Step> published = {},
                       const RetainOptions& options = {});

}  // namespace tessera
