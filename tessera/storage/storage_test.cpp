// The promises of storage.h, held against every implementation.
#include "tessera/storage/storage.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <atomic>
#include <thread>

#include "tessera/storage/local_storage.h"
#include "tessera/storage/memory_storage.h"
#include "tessera/storage/names.h"
#include "tests/support/sim_disk.h"
#include "tests/support/temporary_directory.h"

namespace tessera {
namespace {

using ::testing::IsEmpty;
using ::testing::UnorderedElementsAre;

class MemoryMaker {
 public:
  Storage& operator*() { return storage_; }
  Storage* operator->() { return &storage_; }

 private:
  MemoryStorage storage_;
};

class LocalMaker {
 public:
  Storage& operator*() { return storage_; }
  Storage* operator->() { return &storage_; }

 private:
  TemporaryDirectory directory_;
  LocalStorage storage_{directory_ / "runs/a"};  // which is made by the first save
};

// A local storage on a disk that is not there: what tests of crashes and failures stand on.
template <bool can>
class SimMaker {
 public:
  Storage& operator*() { return storage_; }
  Storage* operator->() { return &storage_; }
  ~SimMaker() { EXPECT_EQ(disk_.open_descriptors(), 0); }

 private:
  SimDisk disk_{{.exchange = true, .no_replace = can, .most_bytes = can ? INT64_MAX : 3}};
  LocalStorage storage_{"/runs/a", disk_};
};

template <class Maker>
class AnyStorage : public ::testing::Test {
 protected:
  Maker storage_;

  void stage_and_write(const Path& target, std::string_view text, Replace replace) {
    const Path staging = storage_->stage(target + ".staged", "a");
    write(staging + "/f", text);
    const auto committed = capture([&] { storage_->commit_file(staging + "/f", target, replace); });
    storage_->remove(staging);
    if (!committed) throw Error(committed.fault);
  }
  void write(const Path& file, std::string_view text) {
    const auto writer = storage_->create(file);
    writer->write(0, as_bytes(text));
    EXPECT_EQ(writer->close(), static_cast<int64_t>(text.size()));
  }
  std::string read(const Path& file) { return read_all(*storage_->open(file)); }
  static std::string read_all(const ByteSource& source) {
    Bytes bytes(static_cast<size_t>(source.size_bytes()));
    source.read(0, bytes);
    return std::string(as_text(bytes));
  }
  std::vector<std::string> names(const Path& directory) {
    std::vector<std::string> found;
    for (const DirectoryEntry& entry : storage_->list(directory)) found.push_back(entry.name + (entry.is_directory ? "/" : ""));
    return found;
  }
  // A staged directory with one data file and `last`.
  Path staged(const Path& target, const std::string& id, std::string_view content) {
    const Path staging = storage_->stage(target, id);
    write(staging + "/data", content);
    write(staging + "/last", content);
    storage_->sync(staging);
    return staging;
  }
  void save(const Path& target, const std::string& id, std::string_view content, Replace replace = Replace::never) {
    const Path staging = staged(target, id, content);
    storage_->commit(staging, target, "last", replace);
  }
  template <class Work>
  static Code code_of(Work work) {
    const auto outcome = capture(work);
    EXPECT_FALSE(outcome) << "it was expected to fail";
    return outcome.fault.code;
  }
};

using Implementations = ::testing::Types<MemoryMaker, LocalMaker, SimMaker<true>, SimMaker<false>>;
TYPED_TEST_SUITE(AnyStorage, Implementations);

TYPED_TEST(AnyStorage, ReadsBackWhatWasWrittenAtAnyOffsetInAnyOrder) {
  const Path staging = this->storage_->stage("c", "1");
  const auto writer = this->storage_->create(staging + "/f");
  writer->write(6, as_bytes("world"));
  writer->write(0, as_bytes("hello "));
  writer->write(11, {});
  EXPECT_EQ(writer->close(), 11);
  const auto source = this->storage_->open(staging + "/f");
  EXPECT_EQ(this->read_all(*source), "hello world");
  EXPECT_EQ(source->file(), staging + "/f");
  EXPECT_EQ(source->origin_bytes(), 0);
  Bytes middle(3);
  source->read(4, middle);
  EXPECT_EQ(as_text(middle), "o w");
}

TYPED_TEST(AnyStorage, AGapInAFileReadsAsZeros) {
  const Path staging = this->storage_->stage("c", "1");
  const auto writer = this->storage_->create(staging + "/f");
  writer->write(3, as_bytes("x"));
  EXPECT_EQ(writer->close(), 4);
  EXPECT_EQ(this->read(staging + "/f"), std::string("\0\0\0x", 4));
}

TYPED_TEST(AnyStorage, ReadingPastTheEndIsCorruptAndNamesFileAndOffset) {
  this->save("c", "1", "12345");
  const auto source = this->storage_->open("c/data");
  Bytes bytes(3);
  for (const int64_t offset : {int64_t{3}, int64_t{6}, int64_t{-1}, INT64_MAX, INT64_MIN}) {
    const auto outcome = capture([&] { source->read(offset, bytes); });
    ASSERT_FALSE(outcome) << offset;
    EXPECT_EQ(outcome.fault.code, Code::corrupt) << offset;
    EXPECT_EQ(outcome.fault.file, "c/data");
  }
  source->read(5, {});
}

TYPED_TEST(AnyStorage, RefusesToWriteBeforeTheBeginning) {
  const auto writer = this->storage_->create(this->storage_->stage("c", "1") + "/f");
  EXPECT_THROW(writer->write(-1, as_bytes("x")), Error);
}

TYPED_TEST(AnyStorage, CreatesAFileOnceAndOnlyInADirectoryThatIsThere) {
  const Path staging = this->storage_->stage("c", "1");
  this->write(staging + "/f", "first");
  EXPECT_EQ(this->code_of([&] { this->storage_->create(staging + "/f"); }), Code::exists);
  EXPECT_EQ(this->read(staging + "/f"), "first");
  EXPECT_EQ(this->code_of([&] { this->storage_->create("nowhere/f"); }), Code::not_found);
  EXPECT_EQ(this->code_of([&] { this->storage_->create(staging + "/f/g"); }), Code::not_found);
}

TYPED_TEST(AnyStorage, OpensRegularFilesOnly) {
  const Path staging = this->storage_->stage("c", "1");
  EXPECT_EQ(this->code_of([&] { this->storage_->open(staging); }), Code::io);
  EXPECT_EQ(this->code_of([&] { this->storage_->open(staging + "/none"); }), Code::not_found);
}

TYPED_TEST(AnyStorage, RefusesPathsThatLeadOut) {
  this->save("c", "1", "x");
  const std::string nul("c\0d", 3);
  for (const Path& path :
       {Path("../x"), Path("/etc/passwd"), Path("c/../../x"), Path("c//data"), Path("c/./data"), Path("c/"), Path("."), Path(".."), nul}) {
    EXPECT_EQ(this->code_of([&] { this->storage_->open(path); }), Code::invalid_argument) << path;
    EXPECT_EQ(this->code_of([&] { this->storage_->create(path); }), Code::invalid_argument) << path;
    EXPECT_EQ(this->code_of([&] { this->storage_->list(path); }), Code::invalid_argument) << path;
    EXPECT_EQ(this->code_of([&] { this->storage_->exists(path); }), Code::invalid_argument) << path;
    EXPECT_EQ(this->code_of([&] { this->storage_->stage(path, "2"); }), Code::invalid_argument) << path;
    EXPECT_EQ(this->code_of([&] { this->storage_->remove(path); }), Code::invalid_argument) << path;
  }
  EXPECT_EQ(this->code_of([&] { this->storage_->stage("", "2"); }), Code::invalid_argument);
  EXPECT_EQ(this->code_of([&] { this->storage_->remove(""); }), Code::invalid_argument);
  for (const std::string& id : {std::string("a/b"), std::string(""), std::string("trash-a"), std::string("a/../../b")}) {
    EXPECT_EQ(this->code_of([&] { this->storage_->stage("d", id); }), Code::invalid_argument) << id;
  }
  EXPECT_EQ(this->read("c/data"), "x");
}

TYPED_TEST(AnyStorage, ListsOneLevelAndKnowsDirectories) {
  this->save("runs/step-00000001", "1", "x");
  this->save("runs/step-00000002", "2", "y");
  EXPECT_THAT(this->names("runs"), UnorderedElementsAre("step-00000001/", "step-00000002/"));
  EXPECT_THAT(this->names("runs/step-00000001"), UnorderedElementsAre("data", "last"));
  EXPECT_THAT(this->names(""), UnorderedElementsAre("runs/"));
  EXPECT_EQ(this->code_of([&] { this->storage_->list("runs/none"); }), Code::not_found);
  EXPECT_EQ(this->code_of([&] { this->storage_->list("runs/step-00000001/data"); }), Code::not_found);
}

TYPED_TEST(AnyStorage, KnowsWhatExists) {
  this->save("a/b", "1", "x");
  for (const Path& path : {Path(""), Path("a"), Path("a/b"), Path("a/b/data")}) EXPECT_TRUE(this->storage_->exists(path)) << path;
  for (const Path& path : {Path("b"), Path("a/c"), Path("a/b/none"), Path("a/b/data/x"), Path("n/o")})
    EXPECT_FALSE(this->storage_->exists(path)) << path;
}

TYPED_TEST(AnyStorage, StagesBesideTheTargetUnderANameThatIsOurs) {
  EXPECT_EQ(this->storage_->stage("c", "id"), ".tessera-id");
  EXPECT_EQ(this->storage_->stage("runs/a/c", "id"), "runs/a/.tessera-id");
  EXPECT_EQ(this->code_of([&] { this->storage_->stage("c", "id"); }), Code::exists);
  EXPECT_FALSE(this->storage_->exists("c"));
  EXPECT_THAT(this->names(".tessera-id"), IsEmpty());
}

TYPED_TEST(AnyStorage, ACommitMovesEverythingAtOnceAndLeavesNothingBehind) {
  const Path staging = this->staged("c", "1", "x");
  EXPECT_FALSE(this->storage_->exists("c"));
  this->storage_->commit(staging, "c", "last", Replace::never);
  EXPECT_THAT(this->names(""), UnorderedElementsAre("c/"));
  EXPECT_THAT(this->names("c"), UnorderedElementsAre("data", "last"));
  EXPECT_EQ(this->read("c/data"), "x");
}

TYPED_TEST(AnyStorage, AStagedDirectoryWithoutItsLastFileIsNotCommitted) {
  const Path staging = this->storage_->stage("c", "1");
  this->write(staging + "/data", "x");
  EXPECT_EQ(this->code_of([&] { this->storage_->commit(staging, "c", "last", Replace::never); }), Code::not_found);
  EXPECT_FALSE(this->storage_->exists("c"));
  EXPECT_EQ(this->read(staging + "/data"), "x");
}

TYPED_TEST(AnyStorage, ACommitOntoAFullTargetIsRefusedAndLosesNothing) {
  this->save("c", "1", "old");
  const Path staging = this->staged("c", "2", "new");
  EXPECT_EQ(this->code_of([&] { this->storage_->commit(staging, "c", "last", Replace::never); }), Code::exists);
  EXPECT_EQ(this->read("c/data"), "old");
  EXPECT_EQ(this->read(staging + "/data"), "new");
}

TYPED_TEST(AnyStorage, ReplacingPutsTheNewInPlaceOfTheOldAndLeavesNothingBehind) {
  this->save("c", "1", "old");
  for (const auto& [replace, id] : {std::pair(Replace::exchange, "2"), std::pair(Replace::with_gap, "3")}) {
    this->save("c", id, id, replace);
    EXPECT_EQ(this->read("c/data"), id);
    EXPECT_THAT(this->names(""), UnorderedElementsAre("c/"));
    EXPECT_THAT(this->names("c"), UnorderedElementsAre("data", "last"));
  }
}

TYPED_TEST(AnyStorage, ReplacingWhatIsNotThereIsACommit) {
  this->save("c", "1", "x", Replace::exchange);
  this->save("d", "2", "y", Replace::with_gap);
  EXPECT_EQ(this->read("c/data") + this->read("d/data"), "xy");
}

TYPED_TEST(AnyStorage, OnlyADirectoryIsReplacedOrRemoved) {
  this->save("c", "1", "x");
  EXPECT_EQ(this->code_of([&] { this->storage_->stage("c/data", "2"); }), Code::exists);
  EXPECT_EQ(this->code_of([&] { this->storage_->remove("c/data"); }), Code::exists);
  const Path staging = this->staged("d", "3", "y");
  for (const Replace replace : {Replace::never, Replace::exchange, Replace::with_gap}) {
    EXPECT_EQ(this->code_of([&] { this->storage_->commit(staging, "c/data", "last", replace); }), Code::exists);
  }
  EXPECT_EQ(this->read("c/data"), "x");
  EXPECT_EQ(this->read(staging + "/data"), "y");
}

TYPED_TEST(AnyStorage, WhatMayNotBeReplacedStays) {
  this->save("c", "1", "old");
  for (const Replace replace : {Replace::exchange, Replace::with_gap}) {
    const Path staging = this->staged("c", "2", "new");
    const auto refuse = [](const Path&) { throw Error({.code = Code::exists, .what = "it stays"}); };
    EXPECT_EQ(this->code_of([&] { this->storage_->commit(staging, "c", "last", replace, refuse); }), Code::exists);
    EXPECT_EQ(this->read("c/data"), "old");
    EXPECT_EQ(this->read(staging + "/data"), "new");
    this->storage_->remove(staging);
  }
}

TYPED_TEST(AnyStorage, WhatWasPutThereInBetweenGoesBackToItsPlace) {
  for (const Replace replace : {Replace::exchange, Replace::with_gap}) {
    this->save("c", "1", "old");
    const Path late = this->staged("c", "2", "late");
    const Path newer = this->staged("c", "3", "newer");
    // The first question is asked while the old one stands; then, before the two are swapped, somebody else is faster.
    int asked = 0;
    const auto only_the_old = [&](const Path& old) {
      if (this->read(old + "/data") != "old") throw Error({.code = Code::exists, .what = "superseded"});
      if (++asked == 1) this->storage_->commit(newer, "c", "last", Replace::exchange);
    };
    EXPECT_EQ(this->code_of([&] { this->storage_->commit(late, "c", "last", replace, only_the_old); }), Code::exists);
    EXPECT_EQ(this->read("c/data"), "newer");
    EXPECT_EQ(this->read(late + "/data"), "late");
    this->storage_->remove(late);
    this->storage_->remove("c");
    EXPECT_THAT(this->names(""), IsEmpty());
  }
}

TYPED_TEST(AnyStorage, RefusesATargetWithANameOfOurs) {
  for (const Path& target : {Path(".tessera-x"), Path("a/.tessera-trash-x"), Path(".tessera-x/b")})
    EXPECT_EQ(this->code_of([&] { this->storage_->stage(target, "1"); }), Code::invalid_argument) << target;
  this->storage_->stage(".tessera", "1");  // as a name of its own it is nobody's
}

TYPED_TEST(AnyStorage, AReaderOfTheOldContentGoesOnAfterItIsReplacedAndRemoved) {
  this->save("c", "1", "old");
  const auto source = this->storage_->open("c/data");
  this->save("c", "2", "new", Replace::exchange);
  EXPECT_EQ(this->read_all(*source), "old");
  this->storage_->remove("c");
  EXPECT_EQ(this->read_all(*source), "old");
}

TYPED_TEST(AnyStorage, RemovesADirectoryWithAllInItAndNothingElse) {
  this->save("runs/a/c", "1", "x");
  this->save("runs/ab", "2", "y");
  this->storage_->remove("runs/a");
  EXPECT_THAT(this->names("runs"), UnorderedElementsAre("ab/"));
  EXPECT_EQ(this->read("runs/ab/data"), "y");
}

TYPED_TEST(AnyStorage, RemovingWhatIsNotThereDoesNothing) {
  this->storage_->remove("c");
  this->save("d", "1", "x");
  this->storage_->remove("d/e/f");
  EXPECT_EQ(this->read("d/data"), "x");
}

TYPED_TEST(AnyStorage, LeftoversOfACrashAreKnownByNameAndCanBeRemoved) {
  this->save("step-00000001", "1", "x");
  const Path staging = this->staged("step-00000002", "2", "y");  // and then the power went
  for (const DirectoryEntry& entry : this->storage_->list("")) {
    EXPECT_EQ(is_staging_name(entry.name), entry.name == staging);
    if (is_staging_name(entry.name) || is_trash_name(entry.name)) this->storage_->remove(entry.name);
  }
  EXPECT_THAT(this->names(""), UnorderedElementsAre("step-00000001/"));
  this->save("step-00000002", "2", "again");
  EXPECT_EQ(this->read("step-00000002/data"), "again");
}

TYPED_TEST(AnyStorage, ManyThreadsWriteIntoOneStagingDirectory) {
  const Path staging = this->storage_->stage("c", "1");
  std::vector<std::thread> ranks;
  for (int rank = 0; rank < 8; ++rank) {
    ranks.emplace_back([&, rank] {
      this->write(staging + "/data" + std::to_string(rank), std::string(1000, static_cast<char>('a' + rank)));
      this->storage_->sync(staging);
    });
  }
  for (std::thread& rank : ranks) rank.join();
  this->write(staging + "/last", "x");
  this->storage_->commit(staging, "c", "last", Replace::never);
  for (int rank = 0; rank < 8; ++rank) {
    EXPECT_EQ(this->read("c/data" + std::to_string(rank)), std::string(1000, static_cast<char>('a' + rank)));
  }
}

TYPED_TEST(AnyStorage, OfManyThatCommitToOneTargetOneWinsAndItsFilesBelongTogether) {
  constexpr int savers = 8;
  std::vector<Path> stagings;
  for (int i = 0; i < savers; ++i) stagings.push_back(this->staged("c", std::to_string(i), std::to_string(i)));
  std::atomic<int> winners = 0;
  std::vector<std::thread> threads;
  for (const Path& staging : stagings) {
    threads.emplace_back([&] {
      if (capture([&] { this->storage_->commit(staging, "c", "last", Replace::never); })) ++winners;
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(winners, 1);
  EXPECT_EQ(this->read("c/data"), this->read("c/last"));
}

// Any writes to a file, in any order, leave what the same writes leave in a string.
TYPED_TEST(AnyStorage, AFileIsTheSumOfItsWrites) {
  int id = 0;
  EXPECT_TRUE(rc::check([&] {
    const auto writes = *rc::gen::container<std::vector<std::pair<uint16_t, std::string>>>(
        rc::gen::pair(rc::gen::inRange<uint16_t>(0, 5000), rc::gen::arbitrary<std::string>()));
    const Path file = this->storage_->stage("c", std::to_string(id++)) + "/f";
    std::string expected;
    const auto writer = this->storage_->create(file);
    for (const auto& [offset, text] : writes) {
      writer->write(offset, as_bytes(text));
      if (!text.empty() && expected.size() < offset + text.size()) expected.resize(offset + text.size());
      if (!text.empty()) expected.replace(offset, text.size(), text);
    }
    RC_ASSERT(writer->close() == static_cast<int64_t>(expected.size()));
    RC_ASSERT(this->read(file) == expected);
  }));
}

TYPED_TEST(AnyStorage, AFileAppearsAtOnceAndIsReplacedOnlyWhenAsked) {
  this->stage_and_write("m.pt", "one", Replace::never);
  EXPECT_EQ(this->read("m.pt"), "one");
  EXPECT_EQ(capture([&] { this->stage_and_write("m.pt", "two", Replace::never); }).fault.code, Code::exists);
  EXPECT_EQ(this->read("m.pt"), "one");
  this->stage_and_write("m.pt", "two", Replace::exchange);
  EXPECT_EQ(this->read("m.pt"), "two");
  EXPECT_THAT(this->names(""), UnorderedElementsAre("m.pt"));
}

}  // namespace
}  // namespace tessera
