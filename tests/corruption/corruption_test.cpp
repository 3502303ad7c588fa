// Every damage of tests/support/mutate.h to checkpoints of stock PyTorch's and to our own, then everything is read.
// A damage is     detected     reading or verifying says so
//                 harmless     all is read as it was
//                 unverified   something is read otherwise, and the report counts it among the bytes that nothing vouches for
//                 silent       something is read otherwise without a word: never
// Ours is always detected. What stock's files cannot tell: that `.metadata` is what was written, and that a file is of this save.
// The ordinary run tries a sample; TESSERA_SCALE=1000 tries all.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <filesystem>
#include <numeric>
#include <random>

#include "tessera/checkpoint/checkpoint.h"
#include "tessera/checkpoint/load.h"
#include "tessera/checkpoint/save.h"
#include "tessera/checkpoint/verify.h"
#include "tessera/comm/thread_comm.h"
#include "tessera/storage/local_storage.h"
#include "tessera/storage/memory_storage.h"
#include "tests/support/mutate.h"
#include "tests/support/run_as_ranks.h"
#include "tests/support/seed.h"

namespace tessera {
namespace {

namespace fs = std::filesystem;

constexpr int64_t most_bytes = 1 << 20;  // more than any tensor of the fixtures
constexpr int64_t sample_of_stocks = 1'800;
constexpr int64_t sample_of_ours = 25'000;

struct Fixture {
  std::string name;
  Files files;
  Path path = "";
  int ranks = 1;  // that saved each for itself
  bool ours = false;
  std::vector<Files> others = {};
};

// ---- What is read

struct Tensor {
  DType dtype = DType::float32;
  Sizes sizes;
  Bytes bytes;
  bool verified = false;
};
struct Leaf {
  KeyPath path;
  std::variant<Tensor, Value> is;
};
using Content = std::map<std::pair<int, std::string>, Leaf>;

Tensor read_tensor(const Checkpoint& checkpoint, const std::string& key) {
  const TensorEntry& entry = checkpoint.tensor(key);
  Tensor tensor{entry.dtype, entry.sizes, {}};
  Box box = whole(entry.sizes);
  // A damaged shape may be anything: one element is enough to open the item.
  if (volume(box) > most_bytes) std::ranges::fill(box.sizes, 1);
  tensor.bytes.resize(static_cast<size_t>(volume(box) * element_bytes(entry.dtype)));
  TensorReader reader = checkpoint.reader(key);
  reader.read(box, dense_view(tensor.bytes.data(), entry.dtype, box.sizes));
  tensor.verified = reader.count().unverified_bytes == 0;
  return tensor;
}

Content read_all(const Fixture& fixture, const std::shared_ptr<const Storage>& storage) {
  Content content;
  for (int rank = 0; rank < fixture.ranks; ++rank) {
    const Checkpoint checkpoint = Checkpoint::open(storage, fixture.path, {.rank = rank});
    for (const auto& [key, entry] : checkpoint.manifest().entries) {
      Leaf& leaf = content[{rank, key}];
      leaf.path = entry.path;
      if (std::holds_alternative<TensorEntry>(entry.is)) leaf.is = read_tensor(checkpoint, key);
      else leaf.is = checkpoint.object(key);
    }
  }
  return content;
}

enum class Difference : uint8_t { none, unverified, other };

Difference compare(const Content& expected, const Content& found) {
  if (expected.size() != found.size()) return Difference::other;
  Difference worst = Difference::none;
  for (auto e = expected.begin(), f = found.begin(); e != expected.end(); ++e, ++f) {
    if (e->first != f->first || e->second.path != f->second.path || e->second.is.index() != f->second.is.index()) return Difference::other;
    const auto* tensor = std::get_if<Tensor>(&e->second.is);
    if (!tensor) {
      if (std::get<Value>(e->second.is) != std::get<Value>(f->second.is)) return Difference::other;
      continue;
    }
    const auto& other = std::get<Tensor>(f->second.is);
    if (tensor->dtype != other.dtype || tensor->sizes != other.sizes) return Difference::other;
    if (tensor->bytes == other.bytes) continue;
    if (other.verified) return Difference::other;
    worst = Difference::unverified;
  }
  return worst;
}

// ---- What becomes of a damage

enum class Verdict : uint8_t { same, detected, harmless, unverified, silent };
constexpr std::array verdicts = {"same", "detected", "harmless", "unverified", "silent"};

// What stands in for a fault that is none: our own slips, and what a hostile file should never bring about.
bool is_told(const Fault& fault) {
  return !fault.what.empty() && fault.code != Code::internal && fault.code != Code::no_memory && fault.code != Code::invalid_argument;
}

class Judge {
 public:
  explicit Judge(const Fixture& fixture)
      : fixture_(fixture),
        intact_(std::make_shared<OverlayStorage>(fixture.files)),
        expected_(read_all(fixture, intact_)),
        report_(verify(intact_, fixture.path)) {
    EXPECT_TRUE(report_.damage.empty()) << fixture.name;
    EXPECT_TRUE(!fixture.ours || report_.unverified_bytes == 0) << fixture.name;
  }

  Verdict judge(const Mutation& mutation) const {
    if (mutation.changes.empty()) return Verdict::same;
    const auto storage = std::make_shared<OverlayStorage>(fixture_.files, mutation.changes);
    const auto read = capture([&] { return read_all(fixture_, storage); });
    if (!read && !is_told(read.fault)) ADD_FAILURE() << fixture_.name << ": " << mutation.what << ": " << describe(read.fault);
    if (fixture_.ours) return judge_ours(storage, read);
    if (!read) return Verdict::detected;
    switch (compare(expected_, *read.value)) {
      case Difference::none: return Verdict::harmless;
      case Difference::unverified: return Verdict::unverified;
      case Difference::other: return is_beyond_stock(mutation) ? Verdict::unverified : Verdict::silent;
    }
    return Verdict::silent;
  }

 private:
  // Whether or not a reader comes across it, verify does.
  Verdict judge_ours(const std::shared_ptr<const Storage>& storage, const Outcome<Content>& read) const {
    const auto report = capture([&] { return verify(storage, fixture_.path); });
    const bool told = report ? !report.value->damage.empty() : report.fault.code == Code::not_found;
    const bool right = !read || compare(expected_, *read.value) == Difference::none;
    return told && right ? Verdict::detected : Verdict::silent;
  }

  // No checksum covers `.metadata` or an index, none says which save a file is of, and some formats have none at all; verify() counts
  // none of these as verified.
  bool is_beyond_stock(const Mutation& mutation) const {
    using Kind = Mutation::Kind;
    if (report_.verified_bytes == 0 || mutation.kind == Kind::swapped_files || mutation.kind == Kind::foreign_file) return true;
    return std::ranges::all_of(mutation.changes, [](const auto& change) { return change.first.ends_with(".metadata"); });
  }

  const Fixture& fixture_;
  const std::shared_ptr<const Storage> intact_;
  const Content expected_;
  const VerifyReport report_;
};

void sweep(const Fixture& fixture, int64_t sample) {
  const uint64_t seed = seed_of_this_run();
  const Mutations mutations(fixture.files, fixture.others);
  const Judge judge(fixture);
  std::array<int64_t, verdicts.size()> counts{};
  int64_t tried = 0;
  const auto attempt = [&](int64_t index) {
    const Mutation mutation = mutations.at(index);
    const Verdict verdict = judge.judge(mutation);
    ++counts[static_cast<size_t>(verdict)];
    ++tried;
    if (verdict == Verdict::silent) ADD_FAILURE() << fixture.name << ": " << mutation.what << ": silent";
  };
  const int64_t wanted = scaled(sample);
  if (wanted >= mutations.count()) {
    for (int64_t i = 0; i < mutations.count(); ++i) attempt(i);
  } else {
    std::mt19937_64 random(seed);
    for (int64_t i = 0; i < wanted; ++i) attempt(std::uniform_int_distribution<int64_t>(0, mutations.count() - 1)(random));
  }
  std::printf("corruption fixture=%s tried=%lld of=%lld", fixture.name.c_str(), static_cast<long long>(tried),
              static_cast<long long>(mutations.count()));
  for (size_t v = 0; v < verdicts.size(); ++v) std::printf(" %s=%lld", verdicts[v], static_cast<long long>(counts[v]));
  std::printf("\n");
}

// ---- Stock's

std::vector<fs::path> directories_of_stock() {
  std::vector<fs::path> found;
  for (const char* release : {"torch-2.13", "torch-2.9"}) {
    for (const auto& entry : fs::directory_iterator(fs::path(TESSERA_GOLDEN) / release)) found.push_back(entry.path() / "ckpt");
  }
  for (const auto& entry : fs::directory_iterator(fs::path(TESSERA_GOLDEN) / "minimal")) {
    if (entry.is_directory()) found.push_back(entry.path());
  }
  std::ranges::sort(found);
  return found;
}

// A directory is one checkpoint, unless it holds files that are one each.
std::vector<Fixture> stocks() {
  std::vector<Fixture> fixtures;
  for (const fs::path& directory : directories_of_stock()) {
    const std::string name = fs::relative(directory, TESSERA_GOLDEN).string();
    const Files files = files_of(LocalStorage(directory.string()), "");
    const bool single = std::ranges::any_of(files, [](const auto& file) { return file.first.ends_with(".pt"); });
    if (!single) {
      fixtures.push_back({name, files, "", std::max(1, rank_local_ranks(OverlayStorage(files), ""))});
      continue;
    }
    for (const auto& [path, bytes] : files) fixtures.push_back({name + "/" + path, {{path, bytes}}, path});
  }
  return fixtures;
}

TEST(CorruptionOfStocks, IsDetectedOrHarmlessOrCountedAsUnverified) {
  std::vector<Fixture> fixtures = stocks();
  ASSERT_GT(fixtures.size(), 30u);
  for (Fixture& fixture : fixtures) {
    for (const Fixture& other : fixtures) {
      if (&other != &fixture && other.files.size() == fixture.files.size()) fixture.others.push_back(other.files);
    }
    sweep(fixture, sample_of_stocks);
  }
}

// ---- Ours

// A rank's part of a state whose values follow from `first`.
struct State {
  std::vector<float> rows;
  std::vector<uint16_t> bias;
  int64_t step = 0;
  StateDict dict;
  State(int rank, int size, float first) : bias(3) {
    constexpr int64_t height = 7;
    const int64_t begin = height * rank / size;
    const int64_t end = height * (rank + 1) / size;
    rows.resize(static_cast<size_t>((end - begin) * 5));
    std::iota(rows.begin(), rows.end(), first + static_cast<float>(begin * 5));
    std::ranges::fill(bias, static_cast<uint16_t>(first));
    step = static_cast<int64_t>(first);
    const auto bytes = [](auto* memory) { return reinterpret_cast<std::byte*>(memory); };
    const Box box{{begin, 0}, {end - begin, 5}};
    dict.add("w", TensorLeaf{DType::float32, {height, 5}, {{box, dense_view(bytes(rows.data()), DType::float32, box.sizes)}}});
    dict.add("b", replicated(dense_view(bytes(bias.data()), DType::bfloat16, {3})));
    dict.add("step", replicated(dense_view(bytes(&step), DType::int64, {})));
    dict.add("empty", replicated(dense_view(nullptr, DType::float64, {0, 2})));
    dict.add("note", Value("saved at " + std::to_string(step)));
  }
};

void save_ours(const std::shared_ptr<MemoryStorage>& storage, const Path& target, int ranks, float first) {
  auto comms = thread_comms(ranks);
  const auto outcomes = run_as_ranks(comms, [&](Comm& comm) {
    State state(comm.rank(), ranks, first);
    state.dict.add("random", RankLocal{Value(static_cast<int64_t>(comm.rank()))});
    save(comm, *storage, target, state.dict, {.metrics = {{"loss", first}}});
  });
  for (const auto& outcome : outcomes) ASSERT_TRUE(bool(outcome)) << describe(outcome.fault);
}

Fixture ours(int ranks) {
  const auto storage = std::make_shared<MemoryStorage>();
  save_ours(storage, "step-1", ranks, 1);
  save_ours(storage, "step-2", ranks, 2);
  return {.name = "ours/ranks-" + std::to_string(ranks),
          .files = files_of(*storage, "step-2"),
          .ours = true,
          .others = {files_of(*storage, "step-1")}};
}

TEST(CorruptionOfOurs, IsAlwaysDetected) {
  for (const int ranks : {1, 3}) sweep(ours(ranks), sample_of_ours);
}

// The collective load is another way through the same checks.
TEST(CorruptionOfOurs, IsAnErrorOrAbsentForALoadOfAllRanks) {
  const Fixture fixture = ours(2);
  const Mutations mutations(fixture.files, fixture.others);
  std::mt19937_64 random(seed_of_this_run());
  const State right(0, 1, 2);
  const auto comms = thread_comms(1);
  int64_t failed = 0;
  int64_t sound = 0;
  for (int64_t i = 0; i < std::min(scaled(5'000), mutations.count()); ++i) {
    const Mutation mutation = mutations.at(std::uniform_int_distribution<int64_t>(0, mutations.count() - 1)(random));
    State state(0, 1, 9);
    const auto loaded = capture([&] { return load(*comms[0], OverlayStorage(fixture.files, mutation.changes), "", state.dict); });
    ++(loaded ? sound : failed);
    if (!loaded) {
      EXPECT_TRUE(is_told(loaded.fault)) << mutation.what << ": " << describe(loaded.fault);
      continue;
    }
    EXPECT_EQ(loaded.value->unverified_bytes, 0) << mutation.what;
    const bool same = state.rows == right.rows && state.bias == right.bias && state.step == right.step;
    EXPECT_TRUE(same && *state.dict.object("note") == *right.dict.object("note")) << mutation.what;
  }
  std::printf("corruption fixture=ours/load failed=%lld sound=%lld\n", static_cast<long long>(failed), static_cast<long long>(sound));
  EXPECT_GT(failed, sound);
}

}  // namespace
}  // namespace tessera
