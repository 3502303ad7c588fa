// tests/support/late_device.h: a device that is none, so that what a GPU asks of the code is tested on machines without one.
// To LibTorch it is a full device (it takes the place of one that this LibTorch was built without, "hpu"): tensors, autograd with a thread
// of its own for each device, streams, events, generators, pinned memory.
//   Memory   The host cannot read it: an address of the device is none of the host's, and who follows it dies.
//   Late     A copy between it and pinned memory that was asked for without waiting is made when its stream is waited for, not before;
//            what is read too early is old. Everything else is done at once, by the CPU's kernels on copies, as its stream would: after
//            what was asked of that stream earlier.
// Backward runs in the device's thread: ranks that are threads need a device each.
#pragma once

#include <c10/core/Device.h>

#include <cstdint>

namespace tessera {

constexpr int late_devices = 8;

// A program that has a call of this knows the devices from its start on.
c10::Device late_device(int index = 0);

// Copies that were asked for without waiting, of this device so far.
int64_t late_copies(c10::Device device);

}  // namespace tessera
