#include "tessera/checkpoint/retention.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <limits>

#include "tessera/checkpoint/checkpoints.h"
#include "tessera/checkpoint/on_ranks_test.h"
#include "tessera/storage/local_storage.h"
#include "tessera/storage/memory_storage.h"
#include "tests/support/temporary_directory.h"

namespace tessera {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

StepFacts with_loss(Step step, double loss) { return {.step = step, .metrics = {{"loss", loss}}}; }

TEST(Retention, WithoutRulesNothingGoes) { EXPECT_THAT(expired({{1}, {2}, {3}}, {}), IsEmpty()); }

TEST(Retention, EachRuleKeepsItsStepsAndTheRestGoes) {
  std::vector<StepFacts> steps;
  for (Step step = 10; step <= 100; step += 10) steps.push_back({.step = step});
  EXPECT_THAT(expired(steps, {.keep_last = 3}), ElementsAre(10, 20, 30, 40, 50, 60, 70));
  EXPECT_THAT(expired(steps, {.keep_every = 50}), ElementsAre(10, 20, 30, 40, 60, 70, 80, 90));
  EXPECT_THAT(expired(steps, {.keep_last = 2, .keep_every = 40}), ElementsAre(10, 20, 30, 50, 60, 70));
  steps[2].pinned = true;
  EXPECT_THAT(expired(steps, {.keep_last = 7}), ElementsAre(10, 20));
}

TEST(Retention, TheBestAreKeptByMetricAndAmongEqualsTheNewer) {
  const std::vector<StepFacts> steps{with_loss(1, 0.5), with_loss(2, 0.1), with_loss(3, 0.1), with_loss(4, 0.9), {.step = 5}};
  EXPECT_THAT(expired(steps, {.keep_best = KeepBest{"loss"}}), ElementsAre(1, 2, 4));
  EXPECT_THAT(expired(steps, {.keep_best = KeepBest{"loss", 2}}), ElementsAre(1, 4));
  EXPECT_THAT(expired(steps, {.keep_best = KeepBest{"loss", 1, true}}), ElementsAre(1, 2, 3));
  EXPECT_THAT(expired(steps, {.keep_best = KeepBest{"no such", 3}}), IsEmpty()) << "a slip is no order to remove all but the newest";
}

TEST(Retention, AMetricThatIsNoNumberIsNotTheBest) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  EXPECT_THAT(expired({with_loss(1, 0.5), with_loss(2, nan), with_loss(3, 1)}, {.keep_best = KeepBest{"loss"}}), ElementsAre(2));
}

TEST(Retention, ADamagedStepStaysAndCountsForNothing) {
  std::vector<StepFacts> steps{with_loss(1, 3), with_loss(2, 2), with_loss(3, 0), with_loss(4, 4)};
  steps[2].sound = false;
  steps[3].sound = false;
  EXPECT_THAT(expired(steps, {.keep_last = 1}), ElementsAre(1)) << "2 is the newest sound one";
  EXPECT_THAT(expired(steps, {.keep_best = KeepBest{"loss"}}), ElementsAre(1));
}

TEST(Retention, NothingGoesWhileTheStepJustPublishedIsInDoubt) {
  std::vector<StepFacts> steps{{.step = 1}, {.step = 2}, {.step = 3, .sound = false}};
  EXPECT_THAT(expired(steps, {.keep_last = 1}, 3), IsEmpty());
  EXPECT_THAT(expired(steps, {.keep_last = 1}, 4), IsEmpty());
  steps[2].sound = true;
  EXPECT_THAT(expired(steps, {.keep_last = 1}, 3), ElementsAre(1, 2));
}

TEST(Retention, AStepSavedBelowOthersIsNotRemovedByItsOwnSave) {
  EXPECT_THAT(expired({{1}, {2}, {9}, {10}}, {.keep_last = 2}, 2), ElementsAre(1));
}

// What must hold whatever the steps and the rules.
TEST(Retention, WhateverTheRulesTheyKeepWhatTheyPromise) {
  EXPECT_TRUE(rc::check([] {
    const auto numbers = *rc::gen::unique<std::vector<Step>>(rc::gen::inRange<Step>(0, 60));
    std::vector<StepFacts> steps;
    for (const Step step : numbers) {
      StepFacts facts{.step = step,
                      .sound = *rc::gen::weightedElement<bool>({{4, true}, {1, false}}),
                      .pinned = *rc::gen::weightedElement<bool>({{1, true}, {5, false}})};
      if (*rc::gen::arbitrary<bool>()) facts.metrics["m"] = *rc::gen::inRange(-3, 4);
      steps.push_back(facts);
    }
    Retention rules{.keep_last = *rc::gen::inRange(0, 5), .keep_every = *rc::gen::inRange<Step>(0, 7)};
    if (*rc::gen::arbitrary<bool>()) rules.keep_best = KeepBest{"m", *rc::gen::inRange(1, 4), *rc::gen::arbitrary<bool>()};
    std::optional<Step> published;
    if (!steps.empty() && *rc::gen::arbitrary<bool>()) published = (*rc::gen::elementOf(steps)).step;

    const std::vector<Step> go = expired(steps, rules, published);
    RC_ASSERT(std::ranges::is_sorted(go));
    const auto goes = [&](Step step) { return std::ranges::binary_search(go, step); };
    if (!has_rules(rules)) RC_ASSERT(go.empty());

    std::vector<StepFacts> sound;
    for (const StepFacts& facts : steps) {
      if (facts.sound) sound.push_back(facts);
    }
    std::ranges::sort(sound, std::greater<>(), &StepFacts::step);
    for (const StepFacts& facts : steps) {
      const bool kept_by_itself = !facts.sound || facts.pinned || facts.step == published ||
                                  (rules.keep_every > 0 && facts.step % rules.keep_every == 0) || facts.step == std::ranges::max(numbers);
      if (kept_by_itself) RC_ASSERT(!goes(facts.step));
      if (facts.step == published && !facts.sound) RC_ASSERT(go.empty());
    }
    for (size_t i = 0; i < sound.size(); ++i) {
      if (std::cmp_less(i, std::max(rules.keep_last, 1))) RC_ASSERT(!goes(sound[i].step));
    }
    if (rules.keep_best) {
      // Whatever goes is beaten by at least `count` sound ones that stay.
      const double sign = rules.keep_best->higher_is_better ? -1 : 1;
      for (const StepFacts& facts : sound) {
        if (!goes(facts.step) || !facts.metrics.contains("m")) continue;
        const auto better = std::ranges::count_if(sound, [&](const StepFacts& other) {
          if (!other.metrics.contains("m") || goes(other.step)) return false;
          const double mine = sign * facts.metrics.at("m");
          const double theirs = sign * other.metrics.at("m");
          return theirs < mine || (theirs == mine && other.step > facts.step);
        });
        RC_ASSERT(better >= rules.keep_best->count);
      }
    }
    // And it keeps no more than that: a sound step that nothing keeps goes.
    if (has_rules(rules) && !rules.keep_best && !(published && go.empty())) {
      for (size_t i = static_cast<size_t>(std::max(rules.keep_last, 1)); i < sound.size(); ++i) {
        const StepFacts& facts = sound[i];
        const bool kept = facts.pinned || facts.step == published || (rules.keep_every > 0 && facts.step % rules.keep_every == 0);
        RC_ASSERT(goes(facts.step) == !kept);
      }
    }
  }));
}

TEST(Retention, RulesThatMakeNoSenseAreRefused) {
  for (const Retention& rules : {Retention{.keep_last = -1}, Retention{.keep_every = -1}, Retention{.keep_best = KeepBest{"m", 0}},
                                 Retention{.keep_best = KeepBest{""}}}) {
    EXPECT_THROW(check(rules), Error);
  }
}

// --- In a root, on ranks

SaveReport save_step(Checkpoints& steps, Step step, double loss) {
  StateDict state;
  state.add("step", Value(step));
  return steps.save(step, state, {.metrics = {{"loss", loss}}});
}

TEST(Checkpoints, KeepsTheBestTheNthTheNewestAndThePinned) {
  const auto storage = std::make_shared<MemoryStorage>();
  all_well(on_ranks(2, [&](Comm& comm) {
    Checkpoints steps(comm, storage, {.keep_last = 1, .keep_every = 5, .keep_best = KeepBest{"loss"}});
    for (Step step = 1; step <= 8; ++step) {
      EXPECT_THAT(save_step(steps, step, step == 3 ? 0.1 : 1).warnings, IsEmpty());
      if (step == 2) steps.pin(2);
    }
    EXPECT_THAT(steps.pinned(), ElementsAre(2));
    EXPECT_EQ(steps.latest(Depth::every_byte), 8);
  }));
  EXPECT_THAT(steps_of(*storage), ElementsAre(2, 3, 5, 8));
  all_well(on_ranks(1, [&](Comm& comm) {
    Checkpoints steps(comm, storage, {.keep_last = 1});
    steps.unpin(2);
    EXPECT_THAT(steps.pinned(), IsEmpty());
    save_step(steps, 9, 1);
  }));
  EXPECT_THAT(steps_of(*storage), ElementsAre(9));
  EXPECT_THAT(storage->list(""), SizeIs(1)) << "neither pins nor leftovers stay behind";
}

TEST(Checkpoints, APinIsAVisibleEmptyFileThatAPersonMayMakeOrRemove) {
  const TemporaryDirectory directory;
  const auto storage = std::make_shared<LocalStorage>(directory.path());
  all_well(on_ranks(1, [&](Comm& comm) {
    Checkpoints steps(comm, storage, {.keep_last = 1});
    save_step(steps, 1, 1);
    steps.pin(1);
    steps.pin(1);
    EXPECT_EQ(storage->open("step-00000001.pinned")->size_bytes(), 0);
    save_step(steps, 2, 1);
    storage->create("step-00000002.pinned")->close();
    save_step(steps, 3, 1);
    EXPECT_THAT(steps_of(*storage), ElementsAre(1, 2, 3));
    steps.unpin(1);
    steps.unpin(1);
    save_step(steps, 4, 1);
    EXPECT_THAT(steps_of(*storage), ElementsAre(2, 4));
    EXPECT_EQ(capture([&] { steps.pin(7); }).fault.code, Code::not_found);
  }));
}

TEST(Checkpoints, ADamagedStepIsKeptToldAndCountsForNoRule) {
  const TemporaryDirectory directory;
  const auto storage = std::make_shared<LocalStorage>(directory.path());
  all_well(on_ranks(2, [&](Comm& comm) {
    Checkpoints all(comm, storage);
    for (Step step = 1; step <= 3; ++step) save_step(all, step, 1);
    if (comm.rank() == 0) {
      const Path staging = storage->stage("gone", "1");
      storage->commit_file("step-00000003/__0_0.distcp", staging + "/x", Replace::never);
      storage->remove(staging);
    }
    barrier(comm, "damage");
    Checkpoints steps(comm, storage, {.keep_last = 2});
    EXPECT_THAT(save_step(steps, 4, 1).warnings, ElementsAre(HasSubstr("step-00000003 is damaged")));
  }));
  EXPECT_THAT(steps_of(*storage), ElementsAre(2, 3, 4)) << "two sound ones, and the damaged one for a person to look at";
}

}  // namespace
}  // namespace tessera
