#include "tessera/base/stream_copy.h"

#include <algorithm>
#include <cstdint>
#include <cstring>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace tessera {

#if defined(__x86_64__)

namespace {

constexpr size_t line_bytes = 64;
constexpr size_t page_bytes = 4096;
constexpr size_t pages_at_once = 4;  // memory serves several of its rows at a time: pages side by side, two lines of each in turn
constexpr size_t stride_bytes = 2 * line_bytes;

// Both copy `count` bytes, a multiple of four pages, to the beginning of a line.

__attribute__((target("avx512f"))) void copy_pages_wide(std::byte* to, const std::byte* from, size_t count) {
  for (size_t at = 0; at < count; at += pages_at_once * page_bytes) {
    for (size_t line = 0; line < page_bytes; line += stride_bytes) {
      for (size_t page = 0; page < pages_at_once; ++page) {
        const std::byte* const source = from + at + page * page_bytes + line;
        std::byte* const target = to + at + page * page_bytes + line;
        _mm_prefetch(reinterpret_cast<const char*>(source + pages_at_once * page_bytes), _MM_HINT_T0);
        _mm_prefetch(reinterpret_cast<const char*>(source + pages_at_once * page_bytes + line_bytes), _MM_HINT_T0);
        const __m512i a = _mm512_loadu_si512(source), b = _mm512_loadu_si512(source + line_bytes);
        _mm512_stream_si512(reinterpret_cast<__m512i*>(target), a);
        _mm512_stream_si512(reinterpret_cast<__m512i*>(target + line_bytes), b);
      }
    }
  }
  _mm256_zeroupper();
}

void copy_pages(std::byte* to, const std::byte* from, size_t count) {
  for (size_t at = 0; at < count; at += pages_at_once * page_bytes) {
    for (size_t line = 0; line < page_bytes; line += stride_bytes) {
      for (size_t page = 0; page < pages_at_once; ++page) {
        const auto* const source = reinterpret_cast<const __m128i*>(from + at + page * page_bytes + line);
        auto* const target = reinterpret_cast<__m128i*>(to + at + page * page_bytes + line);
        for (size_t part = 0; part < stride_bytes / sizeof(__m128i); ++part)
          _mm_stream_si128(target + part, _mm_loadu_si128(source + part));
      }
    }
  }
}

}  // namespace

void stream_copy(std::byte* to, const std::byte* from, size_t count) {
  static const bool wide = __builtin_cpu_supports("avx512f");
  // Whole pages from the beginning of a line of the destination on; what is before and after them as ever.
  const size_t before = std::min((line_bytes - reinterpret_cast<uintptr_t>(to) % line_bytes) % line_bytes, count);
  std::memcpy(to, from, before);
  const size_t pages = (count - before) / (pages_at_once * page_bytes) * (pages_at_once * page_bytes);
  if (pages > 0) {
    if (wide) copy_pages_wide(to + before, from + before, pages);
    else copy_pages(to + before, from + before, pages);
    _mm_sfence();  // such writes are ordered by nothing else
  }
  std::memcpy(to + before + pages, from + before + pages, count - before - pages);
}

#else

void stream_copy(std::byte* to, const std::byte* from, size_t count) { std::memcpy(to, from, count); }

#endif

}  // namespace tessera
