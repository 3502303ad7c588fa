#include "tessera/base/large_pages.h"

#include <sys/mman.h>

#include <cstddef>
#include <cstdint>
#include <limits>
#include <new>

namespace tessera {
namespace {

constexpr size_t page_bytes = size_t{2} << 20;
constexpr size_t worth_it_bytes = 2 * page_bytes;

class LargePages final : public std::pmr::memory_resource {
  void* do_allocate(size_t bytes, size_t alignment) override {
    return is_large(bytes, alignment) ? map(whole_pages(bytes)) : std::pmr::new_delete_resource()->allocate(bytes, alignment);
  }
  void do_deallocate(void* block, size_t bytes, size_t alignment) override {
    if (is_large(bytes, alignment)) ::munmap(block, whole_pages(bytes));
    else std::pmr::new_delete_resource()->deallocate(block, bytes, alignment);
  }
  bool do_is_equal(const std::pmr::memory_resource& other) const noexcept override { return this == &other; }

  static bool is_large(size_t bytes, size_t alignment) { return bytes >= worth_it_bytes && alignment <= page_bytes; }
  static size_t whole_pages(size_t bytes) {
    if (bytes > std::numeric_limits<size_t>::max() - 2 * page_bytes) throw std::bad_alloc();
    return (bytes + page_bytes - 1) / page_bytes * page_bytes;
  }
  // Mapped by ourselves: what malloc gets back it keeps for others, on the pages that it is on.
  static void* map(size_t whole) {
    void* const mapped = ::mmap(nullptr, whole + page_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (mapped == MAP_FAILED) throw std::bad_alloc();
    auto* const begin = static_cast<std::byte*>(mapped);
    const size_t before = (page_bytes - reinterpret_cast<uintptr_t>(mapped) % page_bytes) % page_bytes;
    if (before > 0) ::munmap(begin, before);
    ::munmap(begin + before + whole, page_bytes - before);
#ifdef MADV_HUGEPAGE
    ::madvise(begin + before, whole, MADV_HUGEPAGE);  // a wish: where it is not granted, small pages do
#endif
    return begin + before;
  }
};

}  // namespace

std::pmr::memory_resource& large_pages() {
  static LargePages pages;
  return pages;
}

}  // namespace tessera
