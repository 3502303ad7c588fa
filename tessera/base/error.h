// tessera/base/error.h: one value that says what went wrong, and one exception that carries it.
// A message answers, in this order: who (rank), doing what (phase), where (file, offset), why (what, errno),
// what next (hint). Bad input and a failing world throw Error; a broken invariant of our own is an assert.
// Threads     Values; as safe as any value.
#pragma once

#include <cstdint>
#include <exception>
#include <functional>
#include <new>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

namespace tessera {

enum class Code : uint8_t {
  invalid_argument,  // the caller asked for what cannot be
  not_found,         // a file, step or key that is not there
  exists,            // something is there already and was not to be replaced
  mismatch,          // both sides are sound and disagree: shape, dtype, keys, kind, world size
  corrupt,           // the bytes break the format's rules
  unsupported,       // sound, but not something that we read or write
  limit,             // larger than an option allows
  io,                // the operating system said no
  no_space,          // ENOSPC, EDQUOT
  no_memory,
  timeout,    // a deadline passed
  peer_lost,  // another rank is gone
  aborted,    // this rank was told to stop because another failed
  internal,   // an exception that is not ours
};

// What a rank was doing when it failed.
enum class Phase : uint8_t { none, start, describe, plan, write, publish, open, check, read, apply, train };

struct Fault {
  Code code = Code::internal;
  std::string what;           // one clause: "file ends early"
  std::string file = {};      // relative to the checkpoint; empty when no file is involved
  int64_t offset_bytes = -1;  // -1 when it has no place in a file
  int os_errno = 0;
  std::string hint = {};  // what the person can do next
  int rank = -1;          // rank and phase are added once, by on_every_rank
  Phase phase = Phase::none;
  int same_on = 0;  // how many other ranks failed alike; filled when faults are grouped
  bool operator==(const Fault&) const = default;
};

// "corrupt", "peer_lost", …: the names as they appear in docs and tests.
const char* name(Code code);
const char* name(Phase phase);

// "rank 3, write, __3_0.distcp at byte 1024: No space left on device (ENOSPC); same on 511 other ranks". No hint, no newline.
std::string describe(const Fault& fault);

// The process's exit code for a failure: 1 differs or damaged, 2 usage, 3 input or output, 4 a rank failed or timed out.
int exit_code(Code code);

class Error : public std::runtime_error {
 public:
  explicit Error(Fault fault);
  const Fault& fault() const { return fault_; }
  Code code() const { return fault_.code; }

 private:
  Fault fault_;
};

// The Fault for a failed system call: `what` says what was tried ("open"), the code follows from errno.
Fault os_fault(int os_errno, std::string what, std::string file = {}, int64_t offset_bytes = -1);

// The exception as a Fault: ours as it is, bad_alloc as no_memory, any other as internal with its text up to a backtrace.
Fault fault_of(std::exception_ptr failure);

// The value of an Outcome that has none to carry.
struct Done {
  bool operator==(const Done&) const = default;
};

// A value, or the Fault that stood in its way: what passes between threads and between ranks.
template <class T>
struct Outcome {
  std::optional<T> value;
  Fault fault = {};  // meaningful only without a value
  explicit operator bool() const { return value.has_value(); }
  // The value, or throws the fault.
  T& or_throw() & {
    if (!value) throw Error(fault);
    return *value;
  }
  T or_throw() && {
    if (!value) throw Error(std::move(fault));
    return std::move(*value);
  }
};

// Runs `work` and holds what came of it; never throws.
template <class Work>
auto capture(Work&& work) {
  using Result = std::invoke_result_t<Work>;
  using T = std::conditional_t<std::is_void_v<Result>, Done, Result>;
  try {
    if constexpr (std::is_void_v<Result>) {
      work();
      return Outcome<T>{Done{}};
    } else {
      return Outcome<T>{work()};
    }
  } catch (...) {
    return Outcome<T>{std::nullopt, fault_of(std::current_exception())};
  }
}

}  // namespace tessera
