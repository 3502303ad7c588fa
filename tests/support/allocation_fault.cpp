#include "tests/support/allocation_fault.h"

#include <cstdlib>
#include <new>

#include "tests/support/spared.h"

namespace {

// Plain thread-locals: they are used inside operator new.
thread_local bool armed = false;
thread_local bool lasting = false;
thread_local bool was_hit = false;
thread_local int64_t left = 0;

bool fails() {
  if (!armed || tessera::spared_depth > 0) return false;
  --left;
  const bool now = lasting ? left <= 0 : left == 0;
  was_hit |= now;
  return now;
}

void* allocate(std::size_t size) {
  void* const found = fails() ? nullptr : std::malloc(size ? size : 1);
  if (!found) throw std::bad_alloc();
  return found;
}

void* allocate(std::size_t size, std::align_val_t alignment) {
  const auto unit = static_cast<std::size_t>(alignment);
  void* const found = fails() ? nullptr : std::aligned_alloc(unit, (size + unit - 1) / unit * unit);
  if (!found) throw std::bad_alloc();
  return found;
}

}  // namespace

void* operator new(std::size_t size) { return allocate(size); }
void* operator new[](std::size_t size) { return allocate(size); }
void* operator new(std::size_t size, std::align_val_t alignment) { return allocate(size, alignment); }
void* operator new[](std::size_t size, std::align_val_t alignment) { return allocate(size, alignment); }
void* operator new(std::size_t size, const std::nothrow_t&) noexcept { return fails() ? nullptr : std::malloc(size ? size : 1); }
void* operator new[](std::size_t size, const std::nothrow_t&) noexcept { return fails() ? nullptr : std::malloc(size ? size : 1); }
void operator delete(void* at) noexcept { std::free(at); }
void operator delete[](void* at) noexcept { std::free(at); }
void operator delete(void* at, std::size_t) noexcept { std::free(at); }
void operator delete[](void* at, std::size_t) noexcept { std::free(at); }
void operator delete(void* at, std::align_val_t) noexcept { std::free(at); }
void operator delete[](void* at, std::align_val_t) noexcept { std::free(at); }
void operator delete(void* at, std::size_t, std::align_val_t) noexcept { std::free(at); }
void operator delete[](void* at, std::size_t, std::align_val_t) noexcept { std::free(at); }
void operator delete(void* at, const std::nothrow_t&) noexcept { std::free(at); }
void operator delete[](void* at, const std::nothrow_t&) noexcept { std::free(at); }

namespace tessera {

AllocationFault::AllocationFault(int64_t at, bool for_ever) {
  left = at;
  lasting = for_ever;
  was_hit = false;
  armed = true;
}
AllocationFault::~AllocationFault() { armed = false; }
bool AllocationFault::hit() const { return was_hit; }

}  // namespace tessera
