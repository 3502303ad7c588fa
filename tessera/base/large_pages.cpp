#include "tessera/base/large_pages.h"

#include <sys/mman.h>

#include <cstddef>
#include <cstdlib>
#include <new>

namespace tessera {
namespace {

constexpr size_t page_bytes = size_t{2} << 20;
constexpr size_t worth_it_bytes = 2 * page_bytes;

class LargePages final : public std::pmr::memory_resource {
  void* do_allocate(size_t bytes, size_t alignment) override {
    if (!is_large(bytes, alignment)) return std::pmr::new_delete_resource()->allocate(bytes, alignment);
    if (bytes > SIZE_MAX - page_bytes) throw std::bad_alloc();
    const size_t whole = (bytes + page_bytes - 1) / page_bytes * page_bytes;
    void* const block = std::aligned_alloc(page_bytes, whole);
    if (!block) throw std::bad_alloc();
#ifdef MADV_HUGEPAGE
    ::madvise(block, whole, MADV_HUGEPAGE);  // a wish: where it is not granted, small pages do
#endif
    return block;
  }
  void do_deallocate(void* block, size_t bytes, size_t alignment) override {
    if (is_large(bytes, alignment)) std::free(block);
    else std::pmr::new_delete_resource()->deallocate(block, bytes, alignment);
  }
  bool do_is_equal(const std::pmr::memory_resource& other) const noexcept override { return this == &other; }

  static bool is_large(size_t bytes, size_t alignment) { return bytes >= worth_it_bytes && alignment <= page_bytes; }
};

}  // namespace

std::pmr::memory_resource& large_pages() {
  static LargePages pages;
  return pages;
}

}  // namespace tessera
