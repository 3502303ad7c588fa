#include "tessera/format/sidecar.h"

#include <cassert>

#include "tessera/format/paged_source.h"
#include "tessera/format/sidecar_layout.h"
#include "tessera/format/sidecar_reader.h"

namespace tessera::format {
namespace {

void put(ByteWriter& out, const Digest& digest) { out.put_raw(digest); }

// Metrics, then the files without their digests.
Bytes names_of(const Sidecar& sidecar) {
  ByteWriter out;
  put_metrics(out, sidecar.metrics);
  out.put<uint64_t>(sidecar.files.size());
  for (const auto& [name, file] : sidecar.files) {
    out.put_string(name);
    out.put(file.length_bytes);
  }
  return out.take();
}

// ---- Version 1: all in one, under one digest

FileDigests get_file(ByteReader& in, int64_t block_bytes) {
  FileDigests file{get_length(in), {}};
  const int64_t blocks = block_count(file.length_bytes, block_bytes);
  if (static_cast<uint64_t>(blocks) > in.left() / sizeof(Digest)) throw bad_sidecar("more blocks than the sidecar holds");
  file.blocks.reserve(static_cast<size_t>(blocks));
  for (int64_t b = 0; b < blocks; ++b) file.blocks.push_back(get_digest(in));
  return file;
}

Sidecar decode_version_1(std::span<const std::byte> bytes) {
  ByteReader in(bytes.subspan(sidecar_magic.size() + sizeof(uint32_t)));
  Sidecar sidecar;
  sidecar.block_bytes = get_block_bytes(in);
  sidecar.save_id = in.get_string();
  sidecar.metadata_bytes = get_length(in);
  sidecar.metadata = get_digest(in);
  for (size_t left = in.get_count(16); left > 0; --left) {
    std::string name = get_name_after(in, sidecar.files.empty() ? nullptr : &sidecar.files.rbegin()->first);
    sidecar.files.emplace(std::move(name), get_file(in, sidecar.block_bytes));
  }
  sidecar.metrics = get_metrics(in);
  if (!in.empty()) throw bad_sidecar("bytes after the end");
  return sidecar;
}

}  // namespace

int64_t block_count(int64_t length_bytes, int64_t block_bytes) { return length_bytes / block_bytes + (length_bytes % block_bytes != 0); }

Digest digest_of_ends(std::span<const std::byte> metadata) {
  DigestStream ends;
  const auto first = metadata.first(std::min(metadata.size(), static_cast<size_t>(end_bytes)));
  const auto rest = metadata.subspan(first.size());
  ends.add(first);
  ends.add(rest.last(std::min(rest.size(), static_cast<size_t>(end_bytes))));
  return ends.result();
}

Bytes encode_sidecar(const Sidecar& sidecar, std::span<const std::byte> index) {
  if (sidecar.save_id.size() > longest_save_id)
    throw Error({.code = Code::invalid_argument, .what = "a save id of more than " + std::to_string(longest_save_id) + " bytes"});
  ByteWriter body;
  const Bytes names = names_of(sidecar);
  body.put_raw(names);
  for (const auto& [name, file] : sidecar.files) {
    assert(static_cast<int64_t>(file.blocks.size()) == block_count(file.length_bytes, sidecar.block_bytes));
    for (const Digest& block : file.blocks) put(body, block);
  }
  const size_t digests_bytes = body.size() - names.size();
  body.put_raw(index);
  const Bytes content = body.take();
  ByteWriter table;
  for (const Digest& page : page_table(content)) put(table, page);
  const Bytes digests = table.take();

  ByteWriter head;
  head.put_raw(as_bytes(sidecar_magic));
  head.put<uint32_t>(sidecar_version);
  head.put(sidecar.block_bytes);
  head.put(sidecar.metadata_bytes);
  put(head, sidecar.metadata);
  put(head, sidecar.metadata_ends);
  head.put<uint64_t>(names.size());
  head.put<uint64_t>(digests_bytes);
  head.put<uint64_t>(index.size());
  put(head, digest(digests));
  head.put_string(sidecar.save_id);
  Bytes bytes = head.take();
  const auto seal = [&] {
    const Digest own = digest(bytes);
    bytes.insert(bytes.end(), own.begin(), own.end());
  };
  bytes.reserve(bytes.size() + digests.size() + content.size() + 2 * sizeof(Digest));
  seal();
  bytes.insert(bytes.end(), digests.begin(), digests.end());
  bytes.insert(bytes.end(), content.begin(), content.end());
  seal();
  return bytes;
}

Sidecar decode_sidecar(std::span<const std::byte> bytes) {
  // The seal first: whatever is damaged is then told as damage, and nothing below sees it.
  if (bytes.size() < sidecar_magic.size() + sizeof(uint32_t) + sizeof(Digest)) throw bad_sidecar("file ends early");
  const auto sealed = bytes.first(bytes.size() - sizeof(Digest));
  if (!std::ranges::equal(digest(sealed), bytes.last(sizeof(Digest)))) throw bad_sidecar("its bytes differ from its own digest");
  const MemorySource source(bytes, sidecar_file);
  if (SidecarReader::version(source) == 1) return in_sidecar([&] { return decode_version_1(sealed); });
  const SidecarReader reader(source);
  Bytes index(static_cast<size_t>(reader.index().size_bytes()));
  reader.index().read(0, index);  // so that each page was checked
  return reader.whole();
}

}  // namespace tessera::format
