#include "tests/support/late_device.h"

#include <ATen/Context.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/ones.h>
#include <c10/core/DeviceGuard.h>
#include <c10/core/Event.h>
#include <c10/core/StreamGuard.h>
#include <gtest/gtest.h>

namespace tessera {
namespace {

TEST(LateDevice, ComputesAsTheCpuDoes) {
  const at::Tensor x = at::arange(12, at::kFloat).view({3, 4});
  at::Tensor there = x.to(late_device(2));
  EXPECT_EQ(there.device(), late_device(2));
  EXPECT_TRUE(at::equal(there.cpu(), x));
  there.select(1, 1).add_(5);
  const at::Tensor changed = x.clone();
  changed.select(1, 1).add_(5);
  EXPECT_TRUE(at::equal((there.t().matmul(there) * 2).cpu(), changed.t().matmul(changed) * 2));
  EXPECT_EQ(there.sum().item<float>(), changed.sum().item<float>());
}

TEST(LateDevice, HasGradients) {
  const at::Tensor x = at::ones({3}, at::TensorOptions(late_device())).set_requires_grad(true);
  (x * x).sum().backward();
  EXPECT_EQ(x.grad().device(), late_device());
  EXPECT_TRUE(at::equal(x.grad().cpu(), at::ones({3}) * 2));
}

TEST(LateDeviceDeathTest, ItsMemoryIsNotTheHosts) {
  const at::Tensor there = at::ones({3}, at::TensorOptions(late_device()));
  EXPECT_DEATH((void)*static_cast<volatile const float*>(there.const_data_ptr()), "");
}

TEST(LateDevice, ACopyThatNobodyWaitedForHasNotHappened) {
  const at::Tensor there = at::ones({3}, at::TensorOptions(late_device()));
  const at::Tensor here = at::empty({3}, at::TensorOptions().pinned_memory(true)).zero_();
  const int64_t before = late_copies(late_device());
  {
    const c10::StreamGuard aside(c10::impl::VirtualGuardImpl(late_device().type()).getStreamFromGlobalPool(late_device()));
    here.copy_(there, /*non_blocking=*/true);
    EXPECT_EQ(late_copies(late_device()), before + 1);
    EXPECT_EQ(here.sum().item<float>(), 0);
    aside.current_stream().synchronize();
    EXPECT_EQ(here.sum().item<float>(), 3);
  }
  const at::Tensor pageable = at::empty({3});
  pageable.copy_(there, /*non_blocking=*/true);  // waits all the same, as a GPU's does
  EXPECT_EQ(pageable.sum().item<float>(), 3);
}

TEST(LateDevice, AStreamWaitsForAnEventOfAnother) {
  const c10::impl::VirtualGuardImpl device(late_device().type());
  const c10::Stream main = device.getStream(late_device());
  const c10::Stream aside = device.getStreamFromGlobalPool(late_device());
  const at::Tensor there = at::ones({3}, at::TensorOptions(late_device()));
  const at::Tensor here = (at::ones({3}) * 7).pin_memory();
  c10::Event copied(late_device().type());
  {
    const c10::StreamGuard guard(aside);
    there.copy_(here, /*non_blocking=*/true);
    copied.record(aside);
  }
  EXPECT_EQ(there.sum().item<float>(), 3) << "the main stream knows nothing of the copy";
  main.wait(copied);
  EXPECT_EQ(there.sum().item<float>(), 21);
}

TEST(LateDevice, DrawsFromAGeneratorOfItsOwn) {
  at::Generator generator = at::globalContext().defaultGenerator(late_device(1));
  const auto draw = [] { return at::empty({8}, at::TensorOptions(late_device(1))).uniform_().cpu(); };
  const at::Tensor state = generator.get_state();
  const at::Tensor first = draw();
  const at::Tensor second = draw();
  EXPECT_FALSE(at::equal(first, second));
  generator.set_state(state);
  EXPECT_TRUE(at::equal(draw(), first));
}

}  // namespace
}  // namespace tessera
