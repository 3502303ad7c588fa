#include "tessera/format/sidecar_reader.h"

#include <algorithm>
#include <array>

#include "tessera/base/checked.h"
#include "tessera/format/sidecar_index.h"
#include "tessera/format/sidecar_layout.h"

namespace tessera::format {
namespace {

constexpr int64_t fixed_bytes = 16 + 4 + 8 + 8 + 16 + 16 + 8 + 8 + 8 + 16 + 8;  // of a header, up to the text of its save id

Bytes read_bytes(const ByteSource& source, int64_t offset_bytes, int64_t count) {
  Bytes bytes(static_cast<size_t>(count));
  source.read(offset_bytes, bytes);
  return bytes;
}

std::vector<Digest> digests_in(std::span<const std::byte> bytes) {
  std::vector<Digest> digests(bytes.size() / sizeof(Digest));
  for (size_t i = 0; i < digests.size(); ++i) std::ranges::copy(bytes.subspan(i * sizeof(Digest), sizeof(Digest)), digests[i].begin());
  return digests;
}

}  // namespace

// What stands before the pages.
struct SidecarReader::Header {
  int64_t names_bytes = 0;
  int64_t digests_bytes = 0;
  int64_t index_bytes = 0;
  Digest table = {};
  int64_t end_bytes = 0;  // where it ends
};

uint32_t SidecarReader::version(const ByteSource& file) {
  std::array<std::byte, sidecar_magic.size() + sizeof(uint32_t)> begin{};
  if (file.size_bytes() < static_cast<int64_t>(begin.size())) throw bad_sidecar("file ends early");
  file.read(0, begin);
  if (as_text(begin).substr(0, sidecar_magic.size()) != sidecar_magic) throw bad_sidecar("not a sidecar of tessera's");
  return ByteReader(std::span(begin).subspan(sidecar_magic.size())).get<uint32_t>();
}

SidecarReader::Header SidecarReader::read_header(const ByteSource& file) {
  const Bytes bytes =
      read_bytes(file, 0, std::min(file.size_bytes(), fixed_bytes + static_cast<int64_t>(longest_save_id + sizeof(Digest))));
  ByteReader in{std::span(bytes).subspan(sidecar_magic.size() + sizeof(uint32_t))};
  Header header;
  head_.block_bytes = get_block_bytes(in);
  head_.metadata_bytes = get_length(in);
  head_.metadata = get_digest(in);
  head_.metadata_ends = get_digest(in);
  for (int64_t* part : {&header.names_bytes, &header.digests_bytes, &header.index_bytes}) *part = get_length(in);
  header.table = get_digest(in);
  head_.save_id = in.get_string();
  const size_t end = bytes.size() - in.left();
  if (get_digest(in) != digest(std::span(bytes).first(end))) throw bad_sidecar("its header differs from its own digest");
  if (head_.save_id.size() > longest_save_id) throw bad_sidecar("a save id of too many bytes");
  header.end_bytes = static_cast<int64_t>(end + sizeof(Digest));
  return header;
}

void SidecarReader::read_names(std::span<const std::byte> names, int64_t blocks) {
  ByteReader in(names);
  head_.metrics = get_metrics(in);
  first_block_.push_back(0);
  for (size_t left = in.get_count(16); left > 0; --left) {
    names_.push_back(get_name_after(in, names_.empty() ? nullptr : &names_.back()));
    lengths_.push_back(get_length(in));
    const int64_t own = block_count(lengths_.back(), head_.block_bytes);
    if (own > blocks - first_block_.back()) throw bad_sidecar("more blocks than the sidecar holds");
    first_block_.push_back(first_block_.back() + own);
  }
  if (!in.empty() || first_block_.back() != blocks) throw bad_sidecar("digests of no file");
}

SidecarReader::SidecarReader(const ByteSource& file) {
  if (const uint32_t number = version(file); number != sidecar_version)
    throw Error({.code = Code::unsupported,
                 .what = "a sidecar of version " + std::to_string(number),
                 .file = sidecar_file,
                 .hint = "update tessera to read it"});
  in_sidecar([&] {
    const Header header = read_header(file);
    const int64_t body_bytes = checked_add(checked_add(header.names_bytes, header.digests_bytes), header.index_bytes);
    const auto digest_bytes = static_cast<int64_t>(sizeof(Digest));
    const int64_t table_bytes = digest_bytes * page_count(body_bytes);
    if (file.size_bytes() - header.end_bytes - table_bytes - digest_bytes != body_bytes)
      throw bad_sidecar("parts that are not as long as it is");
    if (header.digests_bytes % digest_bytes != 0) throw bad_sidecar("digests of no file");
    const Bytes table = read_bytes(file, header.end_bytes, table_bytes);
    if (digest(table) != header.table) throw bad_sidecar("its table of pages differs from its digest");
    body_ = std::make_unique<const PagedSource>(file, header.end_bytes + table_bytes, body_bytes, digests_in(table));
    digests_ = std::make_unique<const PartSource>(*body_, header.names_bytes, header.digests_bytes);
    index_ = std::make_unique<const PartSource>(*body_, header.names_bytes + header.digests_bytes, header.index_bytes);
    read_names(read_bytes(*body_, 0, header.names_bytes), header.digests_bytes / digest_bytes);
  });
}

FileDigests SidecarReader::digests_of(size_t file) const {
  const auto each = static_cast<int64_t>(sizeof(Digest));
  const Bytes bytes = read_bytes(*digests_, first_block_[file] * each, (first_block_[file + 1] - first_block_[file]) * each);
  return {lengths_[file], digests_in(bytes)};
}

Sidecar SidecarReader::with(const std::set<std::string>& files) const {
  Sidecar sidecar = head_;
  for (const std::string& name : files) {
    const auto found = std::ranges::lower_bound(names_, name);
    if (found == names_.end() || *found != name) throw bad_sidecar("it does not know the file '" + name + "'");
    sidecar.files.emplace_hint(sidecar.files.end(), name, digests_of(static_cast<size_t>(found - names_.begin())));
  }
  return sidecar;
}

Sidecar SidecarReader::whole() const {
  Sidecar sidecar = head_;
  for (size_t i = 0; i < names_.size(); ++i) sidecar.files.emplace_hint(sidecar.files.end(), names_[i], digests_of(i));
  return sidecar;
}

std::optional<Entry> SidecarReader::find(const std::string& key) const { return find_in_index(*index_, key, names_); }

}  // namespace tessera::format
