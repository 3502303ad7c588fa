// What began it, on ranks that are threads: two seeds differ; one is saved, the other loads it, and all parameters are equal bit for bit;
// and the resharding that the original left to do: any number of ranks to any other.
#include <ATen/Context.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>

#include "tessera/checkpoint/load.h"
#include "tessera/checkpoint/save.h"
#include "tests/seed/seed_model.h"
#include "tests/support/late_device.h"
#include "tests/support/temporary_directory.h"

namespace tessera {
namespace {

using Whole = std::map<std::string, std::vector<std::byte>>;

constexpr int64_t one_element = 1;  // of alignment: the boundaries of stock's FSDP1
constexpr uint64_t first_seed = 100;
constexpr uint64_t second_seed = 200;

const char* name(Kind kind) { return kind == Kind::sharded ? "sharded" : kind == Kind::full ? "full" : "local"; }

// The devices that the tests know; one more is one line here. Ranks that are threads have one each.
struct Device {
  const char* name;
  int (*present)();  // how many
  at::Device (*of)(int rank);
};
at::Device host(int /*rank*/) { return at::kCPU; }
const Device devices[] = {
    {"cpu", [] { return 2; }, host},
    {"late", [] { return late_devices; }, late_device},
    {"cuda", [] { return at::globalContext().hasCUDA() ? int{c10::impl::VirtualGuardImpl(at::kCUDA).deviceCount()} : 0; },
     [](int rank) { return at::Device(at::kCUDA, static_cast<at::DeviceIndex>(rank)); }},
};

// Saves the model of the first seed from `ranks` ranks; returns its whole values, which all ranks agree on.
Whole save_from(int ranks, const std::string& model_name, Kind kind, int64_t alignment_bytes, const std::string& directory,
                at::Device (*device)(int rank) = host) {
  Whole saved;
  run_ranks(ranks, [&](Job& job) {
    const auto model =
        SeedModel::make(model_name, job, {.seed = first_seed, .alignment_bytes = alignment_bytes, .device = device(job.rank())});
    Whole whole = model->whole();
    if (job.rank() == 0) saved = std::move(whole);
    State state = model->state(kind);
    save(job, directory, state);
  });
  return saved;
}

// Loads into the model of the second seed on `ranks` ranks; every rank's whole values must turn from different to `saved`.
void load_on(int ranks, const std::string& model_name, Kind kind, int64_t alignment_bytes, const std::string& directory, const Whole& saved,
             at::Device (*device)(int rank) = host) {
  std::atomic<int> differed = 0;
  std::atomic<int> equal = 0;
  run_ranks(ranks, [&](Job& job) {
    const auto model =
        SeedModel::make(model_name, job, {.seed = second_seed, .alignment_bytes = alignment_bytes, .device = device(job.rank())});
    if (model->whole() != saved) ++differed;
    State state = model->state(kind);
    const LoadReport report = load(job, directory, state);
    if (model->whole() == saved && report.missing.empty() && report.unexpected.empty()) ++equal;
  });
  EXPECT_EQ(differed, ranks) << "before the load";
  EXPECT_EQ(equal, ranks) << "after the load";
}

class SeedDevice : public testing::TestWithParam<Device> {};

TEST_P(SeedDevice, TwoSeedsDifferAndAreEqualAfterSaveAndLoadOfEveryKindInOrder) {
  const Device& on = GetParam();
  const int ranks = std::min(on.present(), 2);
  if (ranks == 0) GTEST_SKIP() << "no " << on.name << " here";
  for (const Kind kind : {Kind::local, Kind::sharded, Kind::full}) {
    SCOPED_TRACE(name(kind));
    const TemporaryDirectory directory;
    const Whole saved = save_from(ranks, "skip", kind, 16, directory.path(), on.of);
    EXPECT_EQ(saved.size(), 3u);
    EXPECT_TRUE(saved.contains("nested_linear.nested_linear.weight"));
    load_on(ranks, "skip", kind, 16, directory.path(), saved, on.of);
  }
}
TEST_P(SeedDevice, WhatWasTrainedThereGoesOnInHostMemoryAndBack) {
  const Device& on = GetParam();
  const int ranks = std::min(on.present(), 2);
  if (ranks == 0) GTEST_SKIP() << "no " << on.name << " here";
  const TemporaryDirectory directory;
  Whole trained;
  const auto on_ranks = [&](const char* step, at::Device (*device)(int rank), const char* from, const char* to) {
    SCOPED_TRACE(step);
    run_ranks(ranks, [&](Job& job) {
      const auto model = SeedModel::make("gpt", job, {.seed = first_seed, .optim = true, .device = device(job.rank())});
      State state = model->state(Kind::sharded);
      if (from != nullptr) {
        load(job, directory / from, state);
        EXPECT_EQ(model->whole(), trained);
      }
      model->train(2);
      save(job, directory / to, state);
      Whole whole = model->whole();
      barrier(job.comm(), "seen");
      if (job.rank() == 0) trained = std::move(whole);
    });
  };
  on_ranks("there", on.of, nullptr, "a");
  on_ranks("in host memory", host, "a", "b");
  on_ranks("there again", on.of, "b", "c");
  on_ranks("and in host memory", host, "c", "d");
}
INSTANTIATE_TEST_SUITE_P(Devices, SeedDevice, testing::ValuesIn(devices), [](const auto& info) { return info.param.name; });

struct Case {
  int from;
  Kind kind;
  const char* model;
  int64_t alignment_bytes;
};

class SeedReshard : public testing::TestWithParam<Case> {};

TEST_P(SeedReshard, AnyNumberOfRanksLoadsWhatAnyOtherSaved) {
  const auto& [from, kind, model, alignment_bytes] = GetParam();
  const TemporaryDirectory directory;
  const Whole saved = save_from(from, model, kind, alignment_bytes, directory.path());
  for (int to = 1; to <= 4; ++to) {
    SCOPED_TRACE("on " + std::to_string(to) + " ranks");
    load_on(to, model, kind, alignment_bytes, directory.path(), saved);
  }
}

std::vector<Case> cases() {
  std::vector<Case> all;
  for (const char* model : {"skip", "uneven"}) {
    for (const Kind kind : {Kind::local, Kind::sharded, Kind::full}) {
      for (int from = 1; from <= 4; ++from) {
        for (const int64_t alignment_bytes : {int64_t{16}, one_element}) all.push_back({from, kind, model, alignment_bytes});
      }
    }
  }
  return all;
}
INSTANTIATE_TEST_SUITE_P(Matrix, SeedReshard, testing::ValuesIn(cases()), [](const auto& info) {
  const Case& c = info.param;
  return std::string(c.model) + "_" + name(c.kind) + "_from" + std::to_string(c.from) +
         (c.alignment_bytes == one_element ? "_element" : "_aligned");
});

TEST(Seed, AKindIsNotTakenForAnother) {
  const TemporaryDirectory directory;
  save_from(2, "skip", Kind::local, 16, directory.path());
  try {
    run_ranks(2, [&](Job& job) {
      const auto model = SeedModel::make("skip", job, {.seed = second_seed});
      State state = model->state(Kind::sharded);
      load(job, directory.path(), state);
    });
    FAIL() << "loaded";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Code::not_found);
    EXPECT_NE(error.fault().hint.find("kind local"), std::string::npos) << error.fault().hint;
  }
}

}  // namespace
}  // namespace tessera
