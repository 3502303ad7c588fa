#include "tessera/format/paged_source.h"

#include <algorithm>
#include <cassert>

namespace tessera::format {

int64_t page_count(int64_t size_bytes) { return size_bytes / page_bytes + (size_bytes % page_bytes != 0); }

std::vector<Digest> page_table(std::span<const std::byte> bytes) {
  std::vector<Digest> table;
  table.reserve(static_cast<size_t>(page_count(static_cast<int64_t>(bytes.size()))));
  while (!bytes.empty()) {
    const auto page = bytes.first(std::min(bytes.size(), static_cast<size_t>(page_bytes)));
    table.push_back(digest(page));
    bytes = bytes.subspan(page.size());
  }
  return table;
}

PagedSource::PagedSource(const ByteSource& file, int64_t begin_bytes, int64_t size_bytes, std::vector<Digest> table)
    : pages_(file, begin_bytes, size_bytes), table_(std::move(table)) {
  assert(static_cast<int64_t>(table_.size()) == page_count(size_bytes));
}

void PagedSource::read(int64_t offset_bytes, std::span<std::byte> into) const {
  if (!inside(offset_bytes, into.size(), size_bytes())) throw corrupt_at(*this, offset_bytes, "file ends early");
  while (!into.empty()) {
    const int64_t index = offset_bytes / page_bytes;
    const auto from = static_cast<size_t>(offset_bytes % page_bytes);
    const size_t count = kept_.with([&](auto& kept) {
      auto found = kept.find(index);
      if (found == kept.end()) found = kept.emplace(index, checked_page(index)).first;
      const auto piece = std::span(found->second).subspan(from);
      const size_t taken = std::min(piece.size(), into.size());
      std::ranges::copy(piece.first(taken), into.begin());
      return taken;
    });
    into = into.subspan(count);
    offset_bytes += static_cast<int64_t>(count);
  }
}

Bytes PagedSource::checked_page(int64_t index) const {
  const int64_t begin = index * page_bytes;
  Bytes page(static_cast<size_t>(std::min(page_bytes, size_bytes() - begin)));
  pages_.read(begin, page);
  if (digest(page) != table_[static_cast<size_t>(index)]) throw corrupt_at(*this, begin, "a page differs from its digest");
  return page;
}

}  // namespace tessera::format
