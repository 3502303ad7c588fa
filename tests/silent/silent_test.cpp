// What other checkpointers pass over without a word is an error, a line in the report, or right. stock.py shows the same cases in stock
// PyTorch; those about optimizers are in optimizer_test.cpp.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <numeric>

#include "tessera/checkpoint/async_save.h"
#include "tessera/checkpoint/checkpoint.h"
#include "tessera/checkpoint/load.h"
#include "tessera/checkpoint/on_ranks_test.h"
#include "tessera/checkpoint/save.h"
#include "tessera/format/dcp.h"
#include "tessera/storage/local_storage.h"
#include "tessera/storage/memory_storage.h"
#include "tests/support/temporary_directory.h"

namespace tessera {
namespace {

using ::testing::AllOf;
using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

View view_of(std::vector<float>& memory, Sizes sizes, Sizes strides, int64_t at = 0) {
  return {reinterpret_cast<std::byte*>(memory.data() + at), DType::float32, std::move(sizes), std::move(strides)};
}
View view_of(std::vector<float>& memory) { return view_of(memory, {static_cast<int64_t>(memory.size())}, {1}); }

std::vector<float> counting(size_t count, float from = 0) {
  std::vector<float> values(count);
  std::iota(values.begin(), values.end(), from);
  return values;
}

// One rank's state of whole tensors.
StateDict state_of(std::vector<std::pair<std::string, View>> tensors) {
  StateDict state;
  for (auto& [key, view] : tensors) state.add(key, replicated(view));
  return state;
}

constexpr size_t part_numel = 600'000;  // several blocks

// This rank's part of a tensor that is cut evenly.
StateDict part_of(const Comm& comm, std::vector<float>& memory) {
  StateDict state;
  const auto size = static_cast<int64_t>(memory.size());
  const Box box{{size * comm.rank()}, {size}};
  state.add("w", TensorLeaf{DType::float32, {size * comm.size()}, {{box, view_of(memory)}}});
  return state;
}

// What a job of one rank threw.
Fault fault_alone(const std::function<void(Comm&)>& body) {
  const auto outcomes = on_ranks(1, body);
  EXPECT_FALSE(outcomes[0]) << "nothing was thrown";
  return outcomes[0].fault;
}

void put(MemoryStorage& disk, const Path& file, const Bytes& bytes) {
  const Path staging = disk.stage("other", "x");
  disk.create(staging + "/new")->write(0, bytes);
  disk.commit_file(staging + "/new", file, Replace::exchange);
  disk.remove(staging);
}

TEST(Silent, ADTypeThatChangesBetweenTwoSavesIsTheNewOnesInTheMetadata) {
  const auto storage = std::make_shared<MemoryStorage>();
  std::vector<float> values = counting(4);
  std::vector<uint16_t> halves = {0, 0x3f80, 0x4000, 0x4040};  // the same in bfloat16
  all_well(on_ranks(1, [&](Comm& comm) {
    save(comm, *storage, "1", state_of({{"w", dense_view(reinterpret_cast<std::byte*>(halves.data()), DType::bfloat16, {4})}}));
    save(comm, *storage, "2", state_of({{"w", view_of(values)}}));
  }));
  for (const auto& [step, dtype] : {std::pair("1", DType::bfloat16), {"2", DType::float32}}) {
    const Checkpoint checkpoint = Checkpoint::open(storage, step);
    EXPECT_EQ(checkpoint.tensor("w").dtype, dtype);
    std::vector<float> read(4);
    checkpoint.read("w", whole(Sizes{4}), view_of(read));
    EXPECT_EQ(read, values);
  }
}

// Runs `body` in a process of its own, with a disk of 1 MiB mounted at `directory` for it alone. Its exit code; 77 where that is not
// allowed.
int on_a_small_disk(const std::string& directory, const std::function<bool()>& body) {
  const uid_t user = getuid();
  const gid_t group = getgid();
  const pid_t child = fork();
  if (child == 0) {
    const auto say = [](const char* file, const std::string& text) { std::ofstream(file) << text; };
    if (unshare(CLONE_NEWUSER | CLONE_NEWNS)) _exit(77);
    say("/proc/self/setgroups", "deny");
    say("/proc/self/uid_map", "0 " + std::to_string(user) + " 1");
    say("/proc/self/gid_map", "0 " + std::to_string(group) + " 1");
    if (mount("tmpfs", directory.c_str(), "tmpfs", 0, "size=1m")) _exit(77);
    _exit(capture(body).value.value_or(false) ? 0 : 1);
  }
  int status = 0;
  waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

TEST(Silent, ADiskThatIsFullForOneRankIsAnErrorOnAllAndNothingAppears) {
  const TemporaryDirectory scratch;
  const int code = on_a_small_disk(scratch.path(), [&] {
    LocalStorage storage(scratch.path());
    const auto outcomes = on_ranks(2, [&](Comm& comm) {
      const int64_t begin = comm.rank() == 0 ? 0 : 8, size = comm.rank() == 0 ? 8 : int64_t{1} << 20;
      std::vector<float> memory(static_cast<size_t>(size));
      StateDict state;
      state.add("w", TensorLeaf{DType::float32, {8 + (int64_t{1} << 20)}, {{Box{{begin}, {size}}, view_of(memory)}}});
      save(comm, storage, "step", state);
    });
    bool good = storage.list("").empty();
    for (const auto& outcome : outcomes) {
      std::fprintf(stderr, "%s\n", describe(outcome.fault).c_str());
      // Rank 0 may have come too late for its few bytes as well.
      good = good && !outcome && outcome.fault.code == Code::no_space && outcome.fault.phase == Phase::write;
    }
    return good;
  });
  if (code == 77) GTEST_SKIP() << "no mount namespaces here";
  EXPECT_EQ(code, 0);
}

TEST(Silent, AHoleInAOneRankSaveIsRefusedByItsSize) {
  MemoryStorage storage;
  std::vector<float> memory = counting(4);
  StateDict state;
  state.add("w", TensorLeaf{DType::float32, {8}, {{Box{{0}, {4}}, view_of(memory)}}});
  const Fault fault = fault_alone([&](Comm& comm) { save(comm, storage, "c", state); });
  EXPECT_EQ(fault.code, Code::invalid_argument);
  EXPECT_THAT(fault.what, AllOf(HasSubstr("'w'"), HasSubstr("4 of the 8")));
  EXPECT_THAT(storage.list(""), IsEmpty());
}

TEST(Silent, Float32IsNotLoadedIntoBfloat16Unasked) {
  MemoryStorage storage;
  std::vector<float> memory = {1.001f, 2.002f, 3.0f};
  std::vector<uint16_t> halves(3, 0x1234);
  StateDict state = state_of({{"w", dense_view(reinterpret_cast<std::byte*>(halves.data()), DType::bfloat16, {3})}});
  all_well(on_ranks(1, [&](Comm& comm) { save(comm, storage, "c", state_of({{"w", view_of(memory)}})); }));
  const Fault fault = fault_alone([&](Comm& comm) { load(comm, storage, "c", state); });
  EXPECT_EQ(fault.code, Code::mismatch);
  EXPECT_THAT(fault.what, HasSubstr("'w' is float32 in the checkpoint and bfloat16 here"));
  EXPECT_THAT(halves, Each(0x1234));
  all_well(on_ranks(1, [&](Comm& comm) { EXPECT_THAT(load(comm, storage, "c", state, {.allow_cast = true}).cast, ElementsAre("w")); }));
  EXPECT_THAT(halves, ElementsAre(0x3f80, 0x4000, 0x4040));
}

TEST(Silent, KeysThatOnlyTheCheckpointHasAreReported) {
  MemoryStorage storage;
  std::vector<float> memory = counting(3);
  all_well(on_ranks(1, [&](Comm& comm) {
    StateDict state = state_of({{"w", view_of(memory)}, {"scale", view_of(memory)}});
    state.add("note", Value("text"));
    save(comm, storage, "c", state);
    StateDict less = state_of({{"w", view_of(memory)}});
    EXPECT_THAT(load(comm, storage, "c", less).unexpected, ElementsAre("note", "scale"));
  }));
}

TEST(Silent, ValuesThatDifferByRankAreKeptByRankOrRefusedAndNeverMerged) {
  MemoryStorage storage;
  const auto outcomes = on_ranks(2, [&](Comm& comm) {
    StateDict state;
    state.add("stream", Value(100 + comm.rank()));
    save(comm, storage, "merged", state);
  });
  for (const auto& outcome : outcomes) {
    EXPECT_EQ(outcome.fault.code, Code::mismatch);
    EXPECT_THAT(outcome.fault.what, HasSubstr("'stream'"));
  }
  all_well(on_ranks(2, [&](Comm& comm) {
    StateDict state;
    state.add("stream", RankLocal{Value(100 + comm.rank())});
    save(comm, storage, "kept", state);
    std::get<RankLocal>(state.leaves.at("stream").is).value = Value(0);
    load(comm, storage, "kept", state);
    EXPECT_EQ(std::get<RankLocal>(state.leaves.at("stream").is).value, Value(100 + comm.rank()));
  }));
}

TEST(Silent, ReplicasThatDisagreeAreRefusedByKeyAndRanksWhenAsked) {
  MemoryStorage storage;
  // Ranks 0 and 2 hold the first rows of `w`, ranks 1 and 3 the last, all of them in the second column of a matrix.
  const auto job = [&](int odd_rank, bool compare, const Path& target) {
    return on_ranks(4, [&](Comm& comm) {
      std::vector<float> memory(8, 9);
      const float half = static_cast<float>(comm.rank() % 2);
      for (int row = 0; row < 4; ++row) memory[static_cast<size_t>(2 * row + 1)] = half * 4 + static_cast<float>(row);
      memory[0] = static_cast<float>(comm.rank());  // no part of it
      if (comm.rank() == odd_rank) memory[7] += 1;
      StateDict state;
      state.add("w", TensorLeaf{DType::float32, {8}, {{Box{{4 * (comm.rank() % 2)}, {4}}, view_of(memory, {4}, {2}, 1)}}});
      save(comm, storage, target, state, {.compare_replicas = compare});
    });
  };
  all_well(job(-1, true, "agree"));
  for (const auto& outcome : job(3, true, "differ")) {
    EXPECT_EQ(outcome.fault.code, Code::mismatch);
    EXPECT_THAT(outcome.fault.what, AllOf(HasSubstr("ranks 1 and 3"), HasSubstr("'w'"), HasSubstr("[4:8]")));
  }
  EXPECT_FALSE(storage.exists("differ"));
  all_well(job(3, false, "unasked"));
}

TEST(Silent, TensorsThatChangeOnceAnAsyncSaveIsStagedAreSavedAsTheyWere) {
  const auto storage = std::make_shared<MemoryStorage>();
  for (const int64_t budget_bytes : {int64_t{0}, int64_t{4} << 20}) {
    all_well(on_ranks(2, [&](Comm& comm) {
      BackgroundSaver saver(comm, budget_bytes);
      std::vector<float> memory(part_numel * 3, 5);
      const Path target = "c" + std::to_string(budget_bytes);
      const PendingSave pending = saver.start(storage, target, part_of(comm, memory), {.save = {.compare_replicas = true}});
      pending.wait_staged();
      std::ranges::fill(memory, -1.0f);
      pending.wait();
      StateDict into = part_of(comm, memory);
      load(comm, *storage, target, into);
      EXPECT_THAT(memory, Each(5));
    }));
  }
}

TEST(Silent, TensorsOfAnyStridesAreSavedAndLoadedAsWhatTheyShow) {
  MemoryStorage storage;
  std::vector<float> base = counting(12), one = {7};
  all_well(on_ranks(1, [&](Comm& comm) {
    save(comm, storage, "c",
         state_of({{"columns", view_of(base, {3, 2}, {4, 1}, 1)},
                   {"transposed", view_of(base, {4, 3}, {1, 4})},
                   {"overlapping", view_of(base, {4, 3}, {2, 1})},
                   {"expanded", view_of(one, {5}, {0})}}));
    std::vector<float> columns(12, -1), transposed(12), overlapping(12), expanded(5);
    StateDict into = state_of({{"columns", view_of(columns, {3, 2}, {1, 3}, 3)},
                               {"transposed", view_of(transposed)},
                               {"overlapping", view_of(overlapping)},
                               {"expanded", view_of(expanded)}});
    std::get<TensorLeaf>(into.leaves.at("transposed").is) = replicated(view_of(transposed, {4, 3}, {3, 1}));
    std::get<TensorLeaf>(into.leaves.at("overlapping").is) = replicated(view_of(overlapping, {4, 3}, {3, 1}));
    load(comm, storage, "c", into);
    EXPECT_THAT(columns, ElementsAre(-1, -1, -1, 1, 5, 9, 2, 6, 10, -1, -1, -1)) << "what lies around a view is left alone";
    EXPECT_THAT(transposed, ElementsAre(0, 4, 8, 1, 5, 9, 2, 6, 10, 3, 7, 11));
    EXPECT_THAT(overlapping, ElementsAre(0, 1, 2, 2, 3, 4, 4, 5, 6, 6, 7, 8));
    EXPECT_THAT(expanded, Each(7));
  }));
}

TEST(Silent, ADestinationThatHoldsAnElementTwiceIsRefusedBeforeAByteChanges) {
  MemoryStorage storage;
  std::vector<float> six = counting(6, 1);
  std::vector<float> memory(12, -1);
  all_well(on_ranks(1, [&](Comm& comm) {
    save(comm, storage, "c", state_of({{"a", view_of(six, {3, 2}, {2, 1})}, {"b", view_of(six, {3, 2}, {2, 1})}}));
  }));
  const auto refused = [&](const View& a, const View& b) {
    for (const bool staged : {false, true}) {
      StateDict into = state_of({{"a", a}, {"b", b}});
      const Fault fault = fault_alone([&](Comm& comm) { load(comm, storage, "c", into, {.staged = staged}); });
      EXPECT_EQ(fault.code, Code::invalid_argument);
      EXPECT_EQ(fault.phase, Phase::check);
      EXPECT_THAT(fault.what, HasSubstr("'a'"));
      EXPECT_THAT(memory, Each(-1));
    }
  };
  const View apart = view_of(memory, {3, 2}, {2, 1}, 6);
  refused(view_of(memory, {3, 2}, {0, 1}), apart);                              // expanded
  refused(view_of(memory, {3, 2}, {1, 1}), apart);                              // a sliding window
  refused(view_of(memory, {3, 2}, {2, 1}, 2), apart);                           // the end of one is the beginning of the other
  refused(view_of(memory, {3, 2}, {2, 1}), view_of(memory, {3, 2}, {1, 3}));    // a reshape of the same memory
  StateDict interleaved = state_of({{"a", view_of(memory, {3, 2}, {4, 1})}, {"b", view_of(memory, {3, 2}, {4, 1}, 2)}});
  all_well(on_ranks(1, [&](Comm& comm) { load(comm, storage, "c", interleaved); }));
  EXPECT_THAT(memory, ElementsAre(1, 2, 1, 2, 3, 4, 3, 4, 5, 6, 5, 6));
}

TEST(Silent, TiedTensorsAreLoadedOnceOrToldToDiffer) {
  MemoryStorage storage;
  std::vector<float> tied = counting(5), other = counting(5, 10);
  all_well(on_ranks(1, [&](Comm& comm) {
    save(comm, storage, "tied", state_of({{"embedding", view_of(tied)}, {"head", view_of(tied)}}));
    save(comm, storage, "untied", state_of({{"embedding", view_of(tied)}, {"head", view_of(other)}}));
  }));
  for (const bool staged : {false, true}) {
    std::vector<float> memory(5, -1);
    StateDict into = state_of({{"embedding", view_of(memory)}, {"head", view_of(memory)}});
    all_well(on_ranks(1, [&](Comm& comm) { load(comm, storage, "tied", into, {.staged = staged}); }));
    EXPECT_EQ(memory, tied);
    std::ranges::fill(memory, -1.0f);
    const Fault fault = fault_alone([&](Comm& comm) { load(comm, storage, "untied", into, {.staged = staged}); });
    EXPECT_EQ(fault.code, Code::mismatch);
    EXPECT_THAT(fault.what, AllOf(HasSubstr("'embedding'"), HasSubstr("'head'")));
    if (staged) {
      EXPECT_THAT(memory, Each(-1));
    }
  }
}

// Two ranks, and a bit of rank 1's data is flipped, in another block than the one that opening the file looks at.
std::shared_ptr<MemoryStorage> damaged_for_rank_1() {
  const auto storage = std::make_shared<MemoryStorage>();
  all_well(on_ranks(2, [&](Comm& comm) {
    std::vector<float> memory(part_numel, 5);
    save(comm, *storage, "c", part_of(comm, memory));
  }));
  Bytes bytes = read_file(*storage, "c/__1_0.distcp", INT64_MAX);
  bytes[bytes.size() - bytes.size() / 4] ^= std::byte{1};
  put(*storage, "c/__1_0.distcp", bytes);
  return storage;
}

TEST(Silent, AfterAFailedLoadTensorsAreListedAsUndefinedOrAreAsTheyWere) {
  const auto storage = damaged_for_rank_1();
  for (const bool staged : {false, true}) {
    all_well(on_ranks(2, [&](Comm& comm) {
      std::vector<float> memory(part_numel, -1);
      StateDict state = part_of(comm, memory);
      try {
        load(comm, *storage, "c", state, {.staged = staged});
        ADD_FAILURE() << "the flipped bit was not found";
      } catch (const LoadError& error) {
        EXPECT_EQ(error.code(), Code::corrupt);
        EXPECT_EQ(error.fault().rank, 1);
        EXPECT_THAT(error.fault().file, HasSubstr("__1_0.distcp"));
        if (staged) {
          EXPECT_THAT(memory, Each(-1));
          EXPECT_THAT(error.undefined(), IsEmpty());
        } else {
          EXPECT_THAT(error.undefined(), ElementsAre("w")) << "also on the rank whose own read went well";
          EXPECT_THAT(error.fault().hint, HasSubstr("nothing of meaning"));
          EXPECT_NE(memory.front(), -1) << "and rightly so";
        }
      }
    }));
  }
}

TEST(Silent, ALoadThatTrustsTheDiskCountsEveryByteAsUnverified) {
  const auto storage = damaged_for_rank_1();
  all_well(on_ranks(2, [&](Comm& comm) {
    std::vector<float> memory(part_numel);
    StateDict state = part_of(comm, memory);
    const LoadReport report = load(comm, *storage, "c", state, {.verify = false});
    EXPECT_EQ(report.read_bytes, 2 * 4 * static_cast<int64_t>(part_numel));
    EXPECT_EQ(report.unverified_bytes, report.read_bytes);
  }));
}

TEST(Silent, AnyFlippedBitInAnyFileIsAnError) {
  MemoryStorage storage;
  std::vector<float> memory = counting(16);
  all_well(on_ranks(1, [&](Comm& comm) {
    StateDict state = state_of({{"w", view_of(memory)}});
    state.add("step", Value(5));
    save(comm, storage, "c", state);
  }));
  int64_t flips = 0;
  for (const char* file : {"__0_0.distcp", format::metadata_file, format::sidecar_file}) {
    const Path path = std::string("c/") + file;
    const Bytes bytes = read_file(storage, path, INT64_MAX);
    for (size_t at = 0; at < bytes.size(); ++at) {
      for (const int mask : {0x01, 0x80}) {
        Bytes damaged = bytes;
        damaged[at] ^= static_cast<std::byte>(mask);
        put(storage, path, damaged);
        on_ranks(1, [&](Comm& comm) {
          std::vector<float> into(16);
          StateDict state = state_of({{"w", view_of(into)}});
          state.add("step", Value(0));
          EXPECT_FALSE(capture([&] { load(comm, storage, "c", state); })) << path << " at byte " << at << " xor " << mask;
        });
        ++flips;
      }
    }
    put(storage, path, bytes);
  }
  std::printf("%lld flipped bits, each an error\n", static_cast<long long>(flips));
}

TEST(Silent, ACopyWithoutItsHiddenSidecarIsRefused) {
  const TemporaryDirectory scratch;
  std::vector<float> memory = counting(16);
  const StateDict state = state_of({{"w", view_of(memory)}});
  all_well(on_ranks(1, [&](Comm& comm) { save(comm, scratch / "c", state); }));
  // As `cp c/* copy` and many an upload leave it, with .metadata put beside by hand.
  std::filesystem::create_directory(scratch / "copy");
  for (const char* file : {"__0_0.distcp", format::metadata_file})
    std::filesystem::copy_file(std::filesystem::path(scratch / "c") / file, std::filesystem::path(scratch / "copy") / file);
  const Fault fault = fault_alone([&](Comm& comm) {
    StateDict into = state;
    load(comm, scratch / "copy", into);
  });
  EXPECT_EQ(fault.code, Code::corrupt);
  EXPECT_THAT(fault.what, HasSubstr("missing"));
  EXPECT_FALSE(capture([&] { Checkpoint::open(scratch / "copy"); }));
}

}  // namespace
}  // namespace tessera
