// tessera/format/resealed_test.h: a sidecar of version 2 whose bytes were changed on purpose, with all its digests made good again: whoever
// writes his own lies gets as far as this. For unit tests and fuzz targets.
#pragma once

#include <algorithm>
#include <cstring>

#include "tessera/base/bytes.h"
#include "tessera/base/digest.h"
#include "tessera/format/paged_source.h"

namespace tessera::format {

// As far as the header's numbers let the parts be found; else with a seal alone.
inline Bytes resealed(Bytes bytes) {
  constexpr size_t table_at = 92, text_at = 108, digest_size = sizeof(Digest);  // of a header, as in docs/format.md
  const auto put = [&](size_t at, const Digest& digest) { std::ranges::copy(digest, bytes.begin() + static_cast<std::ptrdiff_t>(at)); };
  const auto number = [&](size_t at) {
    uint64_t value = 0;
    std::memcpy(&value, bytes.data() + at, sizeof value);
    return value;
  };
  if (bytes.size() >= text_at + 8 + 2 * digest_size) {
    const uint64_t parts = number(68) + number(76) + number(84), text = number(text_at);
    const uint64_t pages = parts / page_bytes + (parts % page_bytes != 0);
    const bool fits = parts < bytes.size() && text < bytes.size() && text_at + 8 + text + digest_size * (2 + pages) + parts == bytes.size();
    if (fits) {
      const size_t end = text_at + 8 + text;
      const auto table = page_table(std::span(bytes).subspan(end + digest_size * (1 + pages), parts));
      for (size_t p = 0; p < pages; ++p) put(end + digest_size * (1 + p), table[p]);
      put(table_at, digest(std::span(bytes).subspan(end + digest_size, digest_size * pages)));
      put(end, digest(std::span(bytes).first(end)));
    }
  }
  if (bytes.size() >= digest_size) put(bytes.size() - digest_size, digest(std::span(bytes).first(bytes.size() - digest_size)));
  return bytes;
}

}  // namespace tessera::format
