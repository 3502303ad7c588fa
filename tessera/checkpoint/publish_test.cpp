#include "tessera/checkpoint/publish.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <thread>

#include "tessera/checkpoint/checkpoint.h"
#include "tessera/checkpoint/on_ranks_test.h"
#include "tessera/checkpoint/save.h"
#include "tessera/storage/local_storage.h"
#include "tests/support/temporary_directory.h"

namespace tessera {
namespace {

using ::testing::HasSubstr;
using ::testing::SizeIs;

// A save by one rank, stopped before it is published.
class Unpublished {
 public:
  Unpublished(Storage& storage, const std::string& id, int value, Replace replace = Replace::never)
      : storage_(storage), replace_(replace), replaces_(prepare_target(storage, "c", replace)) {
    state_.add("value", Value(value));
    const Described described = describe(state_, 0, 1);
    plan_ = plan_save({described.description}, id);
    staging_ = storage.stage("c", id);
    proof_ = write_shards(plan_.ranks[0], described, storage, staging_);
    storage.sync(staging_);
  }
  const Path& staging() const { return staging_; }
  const Proof& proof() const { return proof_; }
  void publish() const { publish(proof_); }
  void publish(const Proof& proof) const { tessera::publish(plan_, {proof}, {}, storage_, staging_, "c", replace_, replaces_); }

 private:
  Storage& storage_;
  const Replace replace_;
  const Standing replaces_;
  StateDict state_;
  SavePlan plan_;
  Path staging_;
  Proof proof_;
};

class Publishing : public ::testing::Test {
 protected:
  TemporaryDirectory directory_;
  const std::shared_ptr<LocalStorage> storage_ = std::make_shared<LocalStorage>(directory_.path());
  std::filesystem::path at(const std::string& name) const { return std::filesystem::path(directory_.path()) / name; }
  Value published() const { return Checkpoint::open(storage_, "c").object("value"); }
};

TEST_F(Publishing, AFileThatIsNotAsProvedPublishesNothing) {
  const std::string file = Unpublished(*storage_, "first", 0).proof().file;
  int id = 0;
  const auto refused = [&](const std::function<void(const Unpublished&)>& spoil) {
    const Unpublished save(*storage_, std::to_string(id++), 1);
    spoil(save);
    const auto outcome = capture([&] { save.publish(); });
    EXPECT_FALSE(outcome);
    EXPECT_FALSE(storage_->exists("c"));
    return outcome.fault;
  };
  EXPECT_EQ(refused([&](const Unpublished& save) { std::filesystem::remove(at(save.staging()) / file); }).code, Code::not_found);
  EXPECT_EQ(refused([&](const Unpublished& save) { std::filesystem::resize_file(at(save.staging()) / file, 5); }).code, Code::corrupt);
  const Fault extra = refused([&](const Unpublished& save) { storage_->create(save.staging() + "/more")->close(); });
  EXPECT_EQ(extra.code, Code::corrupt);
  EXPECT_THAT(extra.file, HasSubstr("/more"));
  EXPECT_EQ(refused([&](const Unpublished& save) { storage_->create(save.staging() + "/.tessera")->close(); }).code, Code::corrupt);
  refused([&](const Unpublished& save) { storage_->remove(save.staging()); });
}

TEST_F(Publishing, AProofThatIsNotOfThePlanPublishesNothing) {
  const Unpublished save(*storage_, "1", 1);
  Proof other_file = save.proof();
  other_file.file = "__9_0.distcp";
  Proof longer = save.proof();
  longer.length_bytes += 1;
  Proof more_blocks = save.proof();
  more_blocks.blocks.push_back({});
  Proof no_blocks = save.proof();
  no_blocks.blocks.clear();
  for (const Proof& proof : {other_file, longer, more_blocks, no_blocks, Proof{}}) {
    EXPECT_EQ(capture([&] { save.publish(proof); }).fault.code, Code::corrupt);
    EXPECT_FALSE(storage_->exists("c"));
  }
  save.publish();
  EXPECT_EQ(published(), Value(1));
}

TEST_F(Publishing, WhoComesSecondIsToldWhoseSaveStandsThere) {
  const Unpublished first(*storage_, "first", 1);
  const Unpublished second(*storage_, "second", 2);
  second.publish();
  const Fault late = capture([&] { first.publish(); }).fault;
  EXPECT_EQ(late.code, Code::exists);
  EXPECT_THAT(late.what, HasSubstr("save second"));
  EXPECT_EQ(published(), Value(2));
  const Fault early = capture([&] { prepare_target(*storage_, "c", Replace::never); }).fault;
  EXPECT_EQ(early.code, Code::exists);
  EXPECT_THAT(early.what, HasSubstr("save second is there already"));
}

TEST_F(Publishing, ALateLeaderDoesNotPutAnOldSaveOverANewerOne) {
  Unpublished(*storage_, "oldest", 0).publish();
  for (const Replace replace : {Replace::exchange, Replace::with_gap}) {
    const Unpublished late(*storage_, "late", 1, replace);
    const Unpublished newer(*storage_, "newer", 2, replace);
    newer.publish();
    const Fault fault = capture([&] { late.publish(); }).fault;
    EXPECT_EQ(fault.code, Code::exists);
    EXPECT_THAT(fault.what, HasSubstr("superseded by save newer"));
    EXPECT_EQ(published(), Value(2));
    storage_->remove(late.staging());
    EXPECT_THAT(storage_->list(""), SizeIs(1));
    Unpublished(*storage_, "oldest", 0, replace).publish();
  }
}

TEST_F(Publishing, WhatAppearedWhereNothingStoodIsNotReplacedEither) {
  const Unpublished late(*storage_, "late", 1, Replace::exchange);
  Unpublished(*storage_, "newer", 2, Replace::exchange).publish();
  EXPECT_THAT(capture([&] { late.publish(); }).fault.what, HasSubstr("superseded by save newer, where this save was to replace nothing"));
  EXPECT_EQ(published(), Value(2));
}

TEST_F(Publishing, OfTwoJobsThatSaveToOneDirectoryOneWins) {
  for (int round = 0; round < 5; ++round) {
    const Path target = "c" + std::to_string(round);
    constexpr size_t jobs = 4;
    std::vector<std::vector<Outcome<Done>>> came(jobs);
    std::vector<std::thread> threads;
    for (size_t job = 0; job < jobs; ++job) {
      threads.emplace_back([&, job] {
        came[job] = on_ranks(2, [&](Comm& comm) {
          StateDict state;
          state.add("value", Value(static_cast<int>(job)));
          save(comm, *storage_, target, state);
        });
      });
    }
    for (std::thread& thread : threads) thread.join();
    std::vector<int> winners;
    for (size_t job = 0; job < jobs; ++job) {
      EXPECT_EQ(bool(came[job][0]), bool(came[job][1]));
      if (came[job][0]) winners.push_back(static_cast<int>(job));
      else EXPECT_EQ(came[job][0].fault.code, Code::exists) << describe(came[job][0].fault);
    }
    ASSERT_THAT(winners, SizeIs(1));
    EXPECT_EQ(Checkpoint::open(storage_, target).object("value"), Value(winners.front()));
    EXPECT_THAT(storage_->list(""), SizeIs(round + 1)) << "the losers left nothing";
  }
}

TEST_F(Publishing, ARankWhoseSaveWasClearedAwayWritesNowhere) {
  const Unpublished save(*storage_, "1", 1);
  storage_->remove(save.staging());
  StateDict state;
  state.add("value", Value(1));
  const Described described = describe(state, 0, 1);
  const SavePlan plan = plan_save({described.description}, "1");
  EXPECT_EQ(capture([&] { write_shards(plan.ranks[0], described, *storage_, save.staging()); }).fault.code, Code::not_found);
  EXPECT_EQ(capture([&] { save.publish(); }).fault.code, Code::not_found);
  EXPECT_THAT(storage_->list(""), SizeIs(0));
}

TEST_F(Publishing, ADamagedCheckpointCanBeReplaced) {
  Unpublished(*storage_, "old", 0).publish();
  std::filesystem::resize_file(at("c/.metadata"), 3);
  std::filesystem::resize_file(at("c/.tessera"), 3);
  Unpublished(*storage_, "new", 1, Replace::exchange).publish();
  EXPECT_EQ(published(), Value(1));
}

}  // namespace
}  // namespace tessera
