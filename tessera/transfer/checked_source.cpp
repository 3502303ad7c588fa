#include "tessera/transfer/checked_source.h"

#include <algorithm>

#include "tessera/base/trace.h"

namespace tessera {
namespace {

constexpr size_t most_kept_bytes = size_t{16} << 20;

}  // namespace

const format::FileDigests& check_length(const format::Sidecar& sidecar, const std::string& name, const ByteSource& file) {
  const auto found = sidecar.files.find(name);
  if (found == sidecar.files.end()) throw corrupt_at(file, 0, "the sidecar does not know this file");
  if (file.size_bytes() != found->second.length_bytes) {
    throw corrupt_at(file, std::min(file.size_bytes(), found->second.length_bytes),
                     "the file has " + std::to_string(file.size_bytes()) + " bytes, it was published with " +
                         std::to_string(found->second.length_bytes));
  }
  return found->second;
}

BlockCache::Content BlockCache::find(const std::string& file, int64_t block) const {
  return kept_.with([&](auto& kept) -> Content {
    const auto found = std::ranges::find_if(kept, [&](const Kept& k) { return k.block == block && k.file == file; });
    if (found == kept.end()) return nullptr;
    std::rotate(kept.begin(), found, found + 1);
    return kept.front().content;
  });
}

void BlockCache::keep(const std::string& file, int64_t block, Content content) {
  kept_.with([&](auto& kept) {
    kept.push_front({file, block, std::move(content)});
    size_t bytes = 0;
    const auto beyond = std::ranges::find_if(kept, [&](const Kept& k) { return (bytes += k.content->size()) > most_kept_bytes; });
    kept.erase(beyond == kept.begin() ? kept.begin() + 1 : beyond, kept.end());
  });
}

CheckedSource::CheckedSource(std::shared_ptr<const ByteSource> file, std::string name, std::shared_ptr<const format::Sidecar> sidecar,
                             std::shared_ptr<BlockCache> cache)
    : file_(std::move(file)),
      name_(std::move(name)),
      sidecar_(std::move(sidecar)),
      digests_(check_length(*sidecar_, name_, *file_)),
      cache_(std::move(cache)) {}

void CheckedSource::read(int64_t offset_bytes, std::span<std::byte> into) const {
  if (!inside(offset_bytes, into.size(), size_bytes())) throw corrupt_at(*this, offset_bytes, "file ends early");
  while (!into.empty()) {
    const int64_t index = offset_bytes / sidecar_->block_bytes;
    const int64_t begin = index * sidecar_->block_bytes;
    const int64_t size = std::min(sidecar_->block_bytes, size_bytes() - begin);
    const int64_t count = std::min(begin + size - offset_bytes, static_cast<int64_t>(into.size()));
    const auto piece = into.first(static_cast<size_t>(count));
    if (count == size) {
      file_->read(begin, piece);
      check(index, digest(piece));
    } else {
      std::copy_n(block(index)->data() + (offset_bytes - begin), count, piece.data());
    }
    into = into.subspan(piece.size());
    offset_bytes += count;
  }
}

BlockCache::Content CheckedSource::block(int64_t index) const {
  if (auto known = cache_->find(name_, index)) return known;
  const int64_t begin = index * sidecar_->block_bytes;
  auto content = std::make_shared<Bytes>(static_cast<size_t>(std::min(sidecar_->block_bytes, size_bytes() - begin)));
  file_->read(begin, *content);
  check(index, digest(*content));
  cache_->keep(name_, index, content);
  return content;
}

void CheckedSource::read_parts(int64_t offset_bytes, std::span<const std::span<std::byte>> parts) const {
  int64_t count = 0;
  for (const auto& part : parts) count += static_cast<int64_t>(part.size());
  const int64_t index = offset_bytes / sidecar_->block_bytes;
  const int64_t begin = index * sidecar_->block_bytes;
  // Callers that know of blocks ask for one at a time.
  if (offset_bytes != begin || count != std::min(sidecar_->block_bytes, size_bytes() - begin))
    return ByteSource::read_parts(offset_bytes, parts);
  file_->read_parts(begin, parts);
  const TraceSpan span("check", count);
  if (parts.size() == 1) return check(index, digest(parts[0]));
  DigestStream stream;
  for (const auto& part : parts) stream.add(part);
  check(index, stream.result());
}

void CheckedSource::check(int64_t index, const Digest& found) const {
  if (found == digests_.blocks[static_cast<size_t>(index)]) return;
  const int64_t begin = index * sidecar_->block_bytes;
  const int64_t end = std::min(begin + sidecar_->block_bytes, size_bytes());
  throw Error({.code = Code::corrupt,
               .what = "bytes " + std::to_string(begin) + " to " + std::to_string(end) + " are not those that were published",
               .file = file(),
               .offset_bytes = origin_bytes() + begin,
               .hint = "load an earlier step, or bring this file back from a copy; `tessera verify` lists all that is damaged"});
}

}  // namespace tessera
