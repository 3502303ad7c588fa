#include "tessera/checkpoint/reclaim.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <filesystem>
#include <fstream>
#include <map>

#include "tessera/base/digest.h"
#include "tessera/checkpoint/checkpoints.h"
#include "tessera/checkpoint/on_ranks_test.h"
#include "tessera/checkpoint/publish.h"
#include "tessera/format/dcp.h"
#include "tessera/format/sidecar.h"
#include "tessera/storage/local_storage.h"
#include "tessera/storage/names.h"
#include "tests/support/temporary_directory.h"

namespace tessera {
namespace {

namespace fs = std::filesystem;
using namespace std::chrono_literals;
using ::testing::IsEmpty;
using ::testing::SizeIs;

constexpr const char* some_id = "0123456789abcdef0123456789abcdef";

class Reclaim : public ::testing::Test {
 protected:
  TemporaryDirectory directory_;
  LocalStorage storage_{directory_.path()};

  fs::path at(const std::string& name) const { return fs::path(directory_.path()) / name; }
  void put(const std::string& name, std::string_view text = "x") {
    fs::create_directories(at(name).parent_path());
    std::ofstream(at(name), std::ios::binary) << text;
  }
  // As if nothing in it had changed for so long.
  void age(const std::string& name, std::chrono::seconds by) {
    const auto then = fs::file_time_type::clock::now() - by;
    for (const auto& entry : fs::recursive_directory_iterator(at(name))) fs::last_write_time(entry.path(), then);
    fs::last_write_time(at(name), then);
  }
  std::map<std::string, std::string> tree() const {
    std::map<std::string, std::string> found;
    for (const auto& entry : fs::recursive_directory_iterator(directory_.path())) {
      const std::string name = fs::relative(entry.path(), directory_.path()).string();
      std::ifstream in(entry.path(), std::ios::binary);
      found[name] = entry.is_regular_file() ? std::string(std::istreambuf_iterator<char>(in), {}) : "/";
    }
    return found;
  }
  void save(const std::string& target, int value, Replace replace = Replace::never) {
    all_well(on_ranks(2, [&](Comm& comm) {
      StateDict state;
      state.add("value", Value(value));
      state.add("other", RankLocal{Value(comm.rank()), true});
      tessera::save(comm, storage_, target, state, {.replace = replace});
    }));
  }
  // A save to `target`, staged inside it and cut short after `moves` files had moved up.
  Path cut_short_inside(const std::string& target, size_t moves) {
    save("whole", 7);
    const std::string id = format::decode_sidecar(content("whole/.tessera")).save_id;
    const Path staging = target + "/" + staging_name(id);
    fs::create_directories(at(target));
    fs::rename(at("whole"), at(staging));
    std::vector<std::string> names;
    for (const DirectoryEntry& entry : storage_.list(staging)) {
      if (entry.name != format::metadata_file) names.push_back(entry.name);
    }
    std::ranges::sort(names);
    for (size_t i = 0; i < moves; ++i) fs::rename(at(staging) / names.at(i), at(target) / names.at(i));
    return staging;
  }
  Bytes content(const Path& file) { return read_file(storage_, file, 1 << 20); }
};

TEST_F(Reclaim, StagingAndTrashGoOnceNothingInThemChanged) {
  save("step-00000001", 1);
  const Path staging = staging_name(some_id);
  put(staging + "/__0_0.distcp", "data");
  put(".tessera-trash-" + std::string(some_id) + "/old");
  ReclaimReport report = reclaim(storage_);
  EXPECT_THAT(report.removed, IsEmpty());
  EXPECT_THAT(report.spared, SizeIs(2));
  age(staging, 59min);
  EXPECT_THAT(reclaim(storage_).removed, IsEmpty());
  age(staging, 61min);
  const auto before = tree();
  report = reclaim(storage_, "", {.dry_run = true});
  ASSERT_THAT(report.removed, SizeIs(1));
  EXPECT_EQ(report.removed[0].directory, staging);
  EXPECT_EQ(report.removed[0].bytes, 4);
  EXPECT_EQ(tree(), before);
  EXPECT_THAT(reclaim(storage_).removed, SizeIs(1));
  EXPECT_THAT(reclaim(storage_, "", {.older_than = 0s}).removed, SizeIs(1));
  EXPECT_THAT(storage_.list(""), SizeIs(1));
  EXPECT_THAT(verify(directory_ / "step-00000001").damage, IsEmpty());
}

TEST_F(Reclaim, OneFileThatChangedKeepsTheWholeStagingDirectory) {
  const Path staging = staging_name(some_id);
  put(staging + "/a");
  put(staging + "/deep/b");
  age(staging, 24h);
  fs::last_write_time(at(staging + "/deep/b"), fs::file_time_type::clock::now());
  EXPECT_THAT(reclaim(storage_).spared, SizeIs(1));
}

TEST_F(Reclaim, ASaveThatIsKnownToBeAtWorkIsLeftAloneWhateverItsAge) {
  put(staging_name(some_id) + "/a");
  age(staging_name(some_id), 24h);
  EXPECT_THAT(reclaim(storage_, "", {.older_than = 0s, .alive = {some_id}}).spared, SizeIs(1));
  EXPECT_THAT(reclaim(storage_).removed, SizeIs(1));
}

TEST_F(Reclaim, NoNameButOursIsALeftover) {
  save("step-00000001", 1);
  const std::string id = some_id;
  const std::string upper = "0123456789ABCDEF0123456789abcdef";
  for (const std::string& name : {std::string(".tessera"), std::string(".tessera-"), std::string(".tessera-trash-"), ".tessera-" + id + "0",
                                  ".tessera-" + id.substr(1), ".tessera-" + upper, ".tessera-aside-" + id, "x.tessera-" + id,
                                  ".tessera-" + id + ".old", ".Tessera-" + id, "tessera-" + id, ".tessera-trash-" + upper,
                                  ".tessera-trash" + id, std::string("step-00000002"), "step-.tessera-" + id, ".tessera-" + id + "\n",
                                  ".tessera- " + id.substr(1), std::string(".tessera-step-00000001"), std::string(".metadata-") + id}) {
    put(name + "/.metadata");
    put(name + "/data");
  }
  put(".tessera-fedcba9876543210fedcba9876543210");  // a file is nobody's staging directory
  fs::create_directory_symlink(at("step-00000001"), at(".tessera-00000000000000000000000000000000"));
  const auto before = tree();
  const ReclaimReport report = reclaim(storage_, "", {.older_than = 0s});
  EXPECT_THAT(report.removed, IsEmpty());
  EXPECT_THAT(report.spared, IsEmpty());
  EXPECT_EQ(tree(), before);
}

// I8: nothing that a save can publish has a name that the rule matches, and the rule matches nothing that steps_of() lists.
TEST_F(Reclaim, WhatCanBePublishedIsNeverALeftover) {
  EXPECT_TRUE(rc::check([&] {
    const auto piece =
        rc::gen::element<std::string>(".tessera-", "trash-", ".tessera", "step-", "00000001", some_id, "aside-", "a", "-", ".");
    std::string name;
    for (const std::string& part : *rc::gen::container<std::vector<std::string>>(4, piece)) name += part;
    const auto staged = capture([&] { return storage_.stage(name, random_id()); });
    if (staged) storage_.remove(*staged.value);
    if (staged) RC_ASSERT(!is_leftover_name(name));
    if (step_named(name)) RC_ASSERT(!is_leftover_name(name));
    if (is_leftover_name(name)) RC_ASSERT(staged.fault.code == Code::invalid_argument);
  }));
}

TEST_F(Reclaim, ASaveThatWasCutShortInsideItsTargetIsTakenBackAndTheNextOneGoesOn) {
  for (size_t moves = 0; moves <= 3; ++moves) {
    const Path staging = cut_short_inside("c", moves);
    if (moves > 0) {
      EXPECT_EQ(capture([&] { prepare_target(storage_, "c", Replace::never); }).fault.code, Code::exists) << "it may be at work";
      EXPECT_EQ(storage_.list("c").size(), moves + 1);
    }
    age(staging, 2h);
    EXPECT_EQ(prepare_target(storage_, "c", Replace::never).kind, Standing::Kind::nothing);
    EXPECT_THAT(storage_.list("c"), IsEmpty()) << moves;
    save("c", 8);
    fs::remove_all(at("c"));
  }
}

TEST_F(Reclaim, OnlyFilesThatTheUnfinishedSaveNamesAreTaken) {
  const Path staging = cut_short_inside("c", 3);
  put("c/notes.txt", "mine");
  put("c/__9_0.distcp", "not of that save");
  fs::resize_file(at("c/__1_0.distcp"), 3);  // not as long as it was published: who knows whose it is
  age(staging, 2h);
  const ReclaimReport report = reclaim(storage_, "c");
  EXPECT_THAT(report.removed, SizeIs(1));
  std::vector<std::string> left;
  for (const DirectoryEntry& entry : storage_.list("c")) left.push_back(entry.name);
  EXPECT_THAT(left, ::testing::UnorderedElementsAre("notes.txt", "__9_0.distcp", "__1_0.distcp"));
}

TEST_F(Reclaim, APublishedCheckpointKeepsItsFilesThoughALeftoverInItNamesThem) {
  const Path staging = cut_short_inside("c", 3);
  // The last moment of a commit: `.metadata` has appeared, by link, and the staging directory is not gone yet.
  fs::create_hard_link(at(staging) / ".metadata", at("c/.metadata"));
  age(staging, 2h);
  EXPECT_THAT(reclaim(storage_, "c").removed, SizeIs(1));
  EXPECT_THAT(verify(directory_ / "c").damage, IsEmpty());
  EXPECT_THAT(verify(directory_ / "c").strangers, IsEmpty());
}

TEST_F(Reclaim, AHeadOfAnotherSaveOrADamagedOneTellsNothing) {
  for (const bool damaged : {true, false}) {
    const Path staging = cut_short_inside("c", 3);
    if (damaged) fs::resize_file(at(staging) / ".metadata", 20);
    else fs::rename(at(staging), at("c") / staging_name(some_id));
    const Path now = damaged ? staging : "c/" + staging_name(some_id);
    age(now, 2h);
    const ReclaimReport report = reclaim(storage_, "c", {.dry_run = true});
    ASSERT_THAT(report.removed, SizeIs(1));
    EXPECT_THAT(report.removed[0].moved_up, IsEmpty());
    fs::remove_all(at("c"));
  }
}

TEST_F(Reclaim, ALiveSaveWhoseStagingWasReclaimedFailsAndPublishesNothing) {
  all_well(on_ranks(2, [&](Comm& comm) {
    StateDict state;
    state.add("value", Value(1));
    const auto saved = capture([&] {
      tessera::save(comm, storage_, "c", state, {.on_phase = [&](Phase phase) {
                      if (phase == Phase::publish && comm.rank() == 0) reclaim(storage_, "", {.older_than = 0s});
                    }});
    });
    EXPECT_FALSE(saved);
    EXPECT_EQ(saved.fault.code, Code::not_found);
  }));
  EXPECT_THAT(storage_.list(""), IsEmpty());
}

TEST_F(Reclaim, RanksReclaimTogetherAndHearTheSame) {
  const auto storage = std::make_shared<LocalStorage>(directory_ / "root");
  all_well(on_ranks(3, [&](Comm& comm) {
    Checkpoints steps(comm, storage);
    EXPECT_THAT(steps.reclaim().removed, IsEmpty()) << "there is no root yet";
    StateDict state;
    state.add("value", Value(1));
    steps.save(1, state);
    if (comm.rank() == 0) put("root/" + staging_name(some_id) + "/a");
    barrier(comm, "left over");
    EXPECT_THAT(steps.reclaim().spared, SizeIs(1));
    const ReclaimReport report = steps.reclaim({.older_than = 0s});
    ASSERT_THAT(report.removed, SizeIs(1));
    EXPECT_EQ(report.removed[0].directory, staging_name(some_id));
    EXPECT_EQ(steps.latest(), 1);
  }));
}

}  // namespace
}  // namespace tessera
