#include "tessera/checkpoint/retention.h"

#include <algorithm>
#include <cmath>
#include <set>

#include "tessera/checkpoint/verify.h"
#include "tessera/format/sidecar.h"

namespace tessera {
namespace {

// Sound steps that have the metric, best first.
std::vector<Step> best_of(const std::vector<StepFacts>& steps, const KeepBest& rule) {
  std::vector<std::pair<double, Step>> ranked;
  for (const StepFacts& facts : steps) {
    const auto found = facts.metrics.find(rule.metric);
    if (!facts.sound || found == facts.metrics.end() || std::isnan(found->second)) continue;
    ranked.emplace_back(rule.higher_is_better ? -found->second : found->second, -facts.step);
  }
  std::ranges::sort(ranked);
  std::vector<Step> best;
  for (const auto& [value, step] : ranked) {
    if (std::ssize(best) < rule.count) best.push_back(-step);
  }
  return best;
}

// Whatever else there is.
bool stays(const StepFacts& facts, const Retention& rules) {
  return facts.pinned || (rules.keep_every > 0 && facts.step % rules.keep_every == 0);
}

std::set<Step> kept(const std::vector<StepFacts>& steps, const Retention& rules, std::optional<Step> published) {
  std::vector<Step> sound;
  std::set<Step> keep;
  for (const StepFacts& facts : steps) {
    if (facts.sound) sound.push_back(facts.step);
    if (!facts.sound || stays(facts, rules)) keep.insert(facts.step);
  }
  std::ranges::sort(sound, std::greater<>());
  sound.resize(std::min(sound.size(), static_cast<size_t>(std::max(rules.keep_last, 1))));
  keep.insert(sound.begin(), sound.end());
  if (rules.keep_best) {
    for (const Step step : best_of(steps, *rules.keep_best)) keep.insert(step);
  }
  if (published) keep.insert(*published);
  if (!steps.empty()) keep.insert(std::ranges::max(steps, {}, &StepFacts::step).step);
  return keep;
}

StepFacts facts_of(const std::shared_ptr<const Storage>& storage, Step step, bool pinned, Depth depth) {
  StepFacts facts{.step = step, .sound = false, .pinned = pinned};
  const auto looked = capture([&] {
    const VerifyReport report = verify(storage, step_name(step), {.depth = depth});
    facts.sound = report.damage.empty();
    facts.metrics = report.metrics;
  });
  if (!looked) facts.sound = false;
  return facts;
}

// Looks at no more steps than the rules ask about: an old one that stays anyway may be damaged or not, unless it may be the best.
std::vector<StepFacts> facts_of_all(const std::shared_ptr<const Storage>& storage, const Retention& rules, std::optional<Step> published,
                                    const RetainOptions& options) {
  const std::set<Step> pinned = pinned_steps(*storage);
  const std::vector<Step> steps = steps_of(*storage);
  std::vector<StepFacts> all;
  int sound = 0;
  for (auto step = steps.rbegin(); step != steps.rend(); ++step) {
    StepFacts facts{.step = *step, .pinned = pinned.contains(*step)};
    const bool counts = sound < std::max(rules.keep_last, 1) || rules.keep_best || *step == published;
    if (options.looks_at) options.looks_at(*step);
    if (counts || !stays(facts, rules)) facts = facts_of(storage, *step, facts.pinned, counts ? options.depth : Depth::names_and_sizes);
    sound += facts.sound;
    all.push_back(std::move(facts));
  }
  return all;
}

}  // namespace

bool has_rules(const Retention& rules) { return rules.keep_last > 0 || rules.keep_every > 0 || rules.keep_best.has_value(); }

void check(const Retention& rules) {
  const auto refuse = [](const char* what) { throw Error({.code = Code::invalid_argument, .what = what}); };
  if (rules.keep_last < 0) refuse("keep_last is 0 or more");
  if (rules.keep_every < 0) refuse("keep_every is 0 or more");
  if (rules.keep_best && rules.keep_best->count < 1) refuse("keep_best keeps 1 or more");
  if (rules.keep_best && rules.keep_best->metric.empty()) refuse("keep_best needs the name of a metric");
}

std::vector<Step> expired(const std::vector<StepFacts>& steps, const Retention& rules, std::optional<Step> published) {
  std::vector<Step> go;
  if (!has_rules(rules)) return go;
  const bool in_doubt =
      published && std::ranges::none_of(steps, [&](const StepFacts& facts) { return facts.step == *published && facts.sound; });
  if (in_doubt) return go;
  // A metric that no step has is a slip, and no order to remove all but the newest.
  if (rules.keep_best &&
      std::ranges::none_of(steps, [&](const StepFacts& facts) { return facts.metrics.contains(rules.keep_best->metric); }))
    return go;
  const std::set<Step> keep = kept(steps, rules, published);
  for (const StepFacts& facts : steps) {
    if (!keep.contains(facts.step)) go.push_back(facts.step);
  }
  std::ranges::sort(go);
  return go;
}

RetentionReport retain(const std::shared_ptr<Storage>& storage, const Retention& rules, std::optional<Step> published,
                       const RetainOptions& options) {
  RetentionReport report;
  if (!has_rules(rules)) return report;
  const std::vector<StepFacts> facts = facts_of_all(storage, rules, published, options);
  for (const StepFacts& one : facts) {
    if (one.sound) continue;
    report.warnings.push_back(step_name(one.step) + " is damaged or cannot be read: it is kept, and counts for no rule");
  }
  if (rules.keep_best && std::ranges::none_of(facts, [&](const StepFacts& one) { return one.metrics.contains(rules.keep_best->metric); }))
    report.warnings.push_back("no step has the metric '" + rules.keep_best->metric + "': nothing is removed");
  for (const Step step : expired(facts, rules, published)) {
    const auto removed = capture([&] {
      if (options.looks_at) options.looks_at(step);
      if (!options.dry_run) storage->remove(step_name(step));
    });
    if (removed) report.removed.push_back(step);
    else report.warnings.push_back(step_name(step) + " could not be removed: " + describe(removed.fault));
  }
  return report;
}

}  // namespace tessera
