#include "tessera/collectives/by_device.h"

#include <ATen/ops/empty.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

namespace tessera {
namespace {

using testing::ElementsAre;

// Says what it was asked for, in `said`, and carries nothing.
class Recorder final : public Collectives {
 public:
  Recorder(std::string name, std::vector<std::string>& said) : name_(std::move(name)), said_(said) {}
  int rank() const override { return 0; }
  int size() const override { return 2; }
  std::unique_ptr<Work> all_gather_into(at::Tensor, at::Tensor, std::string_view label) override { return say("gather", label); }
  std::unique_ptr<Work> reduce_scatter_into(at::Tensor, at::Tensor, Reduce, std::string_view label) override {
    return say("scatter", label);
  }
  std::unique_ptr<Work> all_reduce(at::Tensor, Reduce, std::string_view label) override { return say("reduce", label); }
  std::unique_ptr<Work> broadcast(at::Tensor, int, std::string_view label) override { return say("broadcast", label); }
  std::unique_ptr<Collectives> split(const std::vector<int>&) override { return std::make_unique<Recorder>(name_ + "'s group", said_); }
  void abort(const Fault&) override { say("abort", ""); }

 private:
  std::unique_ptr<Work> say(const char* what, std::string_view label) {
    said_.push_back(name_ + " " + what + std::string(label));
    return nullptr;
  }
  const std::string name_;
  std::vector<std::string>& said_;
};

TEST(ByDevice, EachTensorGoesWhereItsMemoryIs) {
  std::vector<std::string> said;
  const auto both = by_device(std::make_unique<Recorder>("host", said), std::make_unique<Recorder>("gpu", said));
  // A device without memory stands for one that this machine may not have.
  const at::Tensor here = at::empty({4}), there = at::empty({4}, at::kMeta);
  both->all_gather_into(here, here, " a");
  both->all_gather_into(there, there, " b");
  both->reduce_scatter_into(there, there, Reduce::sum, " c");
  both->all_reduce(here, Reduce::max);
  both->split({0})->broadcast(there, 0);
  both->abort({});
  EXPECT_THAT(said, ElementsAre("host gather a", "gpu gather b", "gpu scatter c", "host reduce", "gpu's group broadcast", "host abort",
                                "gpu abort"));
}

}  // namespace
}  // namespace tessera
