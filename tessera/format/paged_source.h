// tessera/format/paged_source.h: a part of a file in pages of 16 KiB, each with a digest in a table: whoever wants a few bytes reads and
// checks the pages that they lie in, and no others. A page that was read is kept.
// Errors      Error(corrupt) that names the place for a page that differs from its digest.
// Threads     const methods may be called from many threads at once.
#pragma once

#include <map>
#include <vector>

#include "tessera/base/byte_source.h"
#include "tessera/base/digest.h"
#include "tessera/base/guarded.h"

namespace tessera::format {

inline constexpr int64_t page_bytes = int64_t{16} << 10;

// The table of these bytes: a digest a page, the last page being what is left.
std::vector<Digest> page_table(std::span<const std::byte> bytes);
int64_t page_count(int64_t size_bytes);

class PagedSource final : public ByteSource {
 public:
  // [begin, begin + size) of `file`, which must outlive it. The table has a digest for each page. Error(corrupt) if the range is not
  // inside.
  PagedSource(const ByteSource& file, int64_t begin_bytes, int64_t size_bytes, std::vector<Digest> table);
  int64_t size_bytes() const override { return pages_.size_bytes(); }
  void read(int64_t offset_bytes, std::span<std::byte> into) const override;
  std::string file() const override { return pages_.file(); }
  int64_t origin_bytes() const override { return pages_.origin_bytes(); }

 private:
  Bytes checked_page(int64_t index) const;

  const PartSource pages_;
  const std::vector<Digest> table_;
  mutable Guarded<std::map<int64_t, Bytes>> kept_;
};

}  // namespace tessera::format
