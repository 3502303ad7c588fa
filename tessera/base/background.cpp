#include "tessera/base/background.h"

#include <sched.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <string>

#include "tessera/base/error.h"

namespace tessera {
void check(const Background& background) {
  if (background.niceness < 0 || background.niceness > 19) {
    throw Error({.code = Code::invalid_argument,
                 .what = "a niceness of " + std::to_string(background.niceness),
                 .hint = "0 is a thread like any other, 19 stands back the most"});
  }
  for (const int cpu : background.cpus) {
    if (cpu >= 0 && cpu < CPU_SETSIZE) continue;
    throw Error({.code = Code::invalid_argument, .what = "a core " + std::to_string(cpu)});
  }
}

void stand_back(const Background& background) noexcept {
  // On Linux both are a thread's own.
  if (background.niceness > 0) {
    const auto self = static_cast<id_t>(::syscall(SYS_gettid));
    ::setpriority(PRIO_PROCESS, self, background.niceness);
  }
  if (background.cpus.empty()) return;
  cpu_set_t set;
  CPU_ZERO(&set);
  for (const int cpu : background.cpus) CPU_SET(cpu, &set);
  ::sched_setaffinity(0, sizeof set, &set);
}

}  // namespace tessera
