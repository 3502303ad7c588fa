#include "tests/support/fiber.h"

#include <cxxabi.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cassert>
#include <cerrno>
#include <cstdint>
#include <utility>
#include <vector>

#include "tessera/base/error.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif
#if defined(__SANITIZE_THREAD__)
#include <sanitizer/tsan_interface.h>
#endif

namespace tessera {
namespace {

constexpr size_t stack_bytes = size_t{512} << 10;  // of address space; memory is used as it is touched

}  // namespace

// Memory with a page below it that nothing may touch. Made once and used again: a run of the simulator needs hundreds, and there are
// hundreds of runs.
class Fiber::Stack {
 public:
  static std::unique_ptr<Stack> take() {
    auto& free = kept();
    if (free.empty()) return std::make_unique<Stack>();
    auto stack = std::move(free.back());
    free.pop_back();
    return stack;
  }
  static void give_back(std::unique_ptr<Stack> stack) { kept().push_back(std::move(stack)); }

  Stack() {
    const auto page = static_cast<size_t>(::sysconf(_SC_PAGESIZE));
    memory_ = ::mmap(nullptr, stack_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory_ == MAP_FAILED) throw Error(os_fault(errno, "map a stack"));
    if (::mprotect(memory_, page, PROT_NONE) != 0) throw Error(os_fault(errno, "guard a stack"));
#if defined(__SANITIZE_THREAD__)
    tsan_ = __tsan_create_fiber(0);
#endif
  }
  ~Stack() {
    ::munmap(memory_, stack_bytes);
#if defined(__SANITIZE_THREAD__)
    __tsan_destroy_fiber(tsan_);
#endif
  }
  Stack(const Stack&) = delete;
  Stack& operator=(const Stack&) = delete;

  void* bottom() const { return memory_; }
  void* tsan() const { return tsan_; }

 private:
  static std::vector<std::unique_ptr<Stack>>& kept() {
    static thread_local std::vector<std::unique_ptr<Stack>> stacks;
    return stacks;
  }
  void* memory_ = nullptr;
  void* tsan_ = nullptr;
};

Fiber::Fiber(std::function<void()> body) : body_(std::move(body)), stack_(Stack::take()) {
  ::getcontext(&inside_);
  inside_.uc_stack.ss_sp = stack_->bottom();
  inside_.uc_stack.ss_size = stack_bytes;
  inside_.uc_link = nullptr;
  const auto self = reinterpret_cast<uintptr_t>(this);
  // makecontext passes ints.
  ::makecontext(&inside_, reinterpret_cast<void (*)()>(enter), 2, static_cast<unsigned int>(self >> 32), static_cast<unsigned int>(self));
}

Fiber::~Fiber() {
  assert(ended_);  // its stack holds live objects else
#if defined(__SANITIZE_ADDRESS__)
  __asan_unpoison_memory_region(stack_->bottom(), stack_bytes);  // the frames that never returned
#endif
  Stack::give_back(std::move(stack_));
}

void Fiber::enter(unsigned int high, unsigned int low) { reinterpret_cast<Fiber*>((static_cast<uintptr_t>(high) << 32) | low)->run(); }

namespace {

// Where the resumer's own stack and fiber are, as the sanitizers want to be told.
struct Resumer {
  const void* stack = nullptr;
  size_t size = 0;
  void* tsan = nullptr;
};
thread_local Resumer resumer;

}  // namespace

void Fiber::run() {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(nullptr, &resumer.stack, &resumer.size);
#endif
  body_();
  body_ = {};
  ended_ = true;
  switch_to(inside_, outside_, false);
  std::abort();  // nobody resumes what has ended
}

void Fiber::resume() {
  assert(!ended_);
#if defined(__SANITIZE_THREAD__)
  resumer.tsan = __tsan_get_current_fiber();
#endif
  swap_exceptions();
  switch_to(outside_, inside_, true);
  swap_exceptions();
}

void Fiber::yield() { switch_to(inside_, outside_, false); }

void Fiber::swap_exceptions() {
  auto& now = *reinterpret_cast<Exceptions*>(abi::__cxa_get_globals());
  std::swap(now, exceptions_);
}

void Fiber::switch_to(ucontext_t& from, ucontext_t& to, [[maybe_unused]] bool into) {
#if defined(__SANITIZE_ADDRESS__)
  void* fake = nullptr;
  void** const keep = ended_ ? nullptr : &fake;
  if (into) __sanitizer_start_switch_fiber(keep, stack_->bottom(), stack_bytes);
  else __sanitizer_start_switch_fiber(keep, resumer.stack, resumer.size);
#endif
#if defined(__SANITIZE_THREAD__)
  __tsan_switch_to_fiber(into ? stack_->tsan() : resumer.tsan, 0);
#endif
  ::swapcontext(&from, &to);
#if defined(__SANITIZE_ADDRESS__)
  if (into) __sanitizer_finish_switch_fiber(fake, nullptr, nullptr);
  else __sanitizer_finish_switch_fiber(fake, &resumer.stack, &resumer.size);
#endif
}

}  // namespace tessera
