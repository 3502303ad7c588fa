#include "tessera/base/background.h"

#include <gtest/gtest.h>
#include <sched.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <thread>

#include "tessera/base/error.h"

namespace tessera {
namespace {

int first_cpu() {
  cpu_set_t set;
  ::sched_getaffinity(0, sizeof set, &set);
  int cpu = 0;
  while (!CPU_ISSET(cpu, &set)) ++cpu;
  return cpu;
}

TEST(Background, ChangesTheCallingThreadAndNoOther) {
  const Background background{.niceness = 7, .cpus = {first_cpu()}};
  check(background);
  std::thread([&] {
    stand_back(background);
    EXPECT_EQ(::getpriority(PRIO_PROCESS, static_cast<id_t>(::syscall(SYS_gettid))), 7);
    cpu_set_t set;
    ::sched_getaffinity(0, sizeof set, &set);
    EXPECT_EQ(CPU_COUNT(&set), 1);
    EXPECT_TRUE(CPU_ISSET(first_cpu(), &set));
  }).join();
  EXPECT_NE(::getpriority(PRIO_PROCESS, static_cast<id_t>(::syscall(SYS_gettid))), 7);
}

TEST(Background, WhatCannotBeIsRefused) {
  EXPECT_EQ(capture([] { check(Background{.niceness = -1}); }).fault.code, Code::invalid_argument);
  EXPECT_EQ(capture([] { check(Background{.niceness = 20}); }).fault.code, Code::invalid_argument);
  EXPECT_EQ(capture([] { check(Background{.cpus = {-1}}); }).fault.code, Code::invalid_argument);
  EXPECT_EQ(capture([] { check(Background{.cpus = {1 << 20}}); }).fault.code, Code::invalid_argument);
  check(Background{});
}

}  // namespace
}  // namespace tessera
