// tessera/format/sidecar_reader.h: a sidecar of version 2, read in parts.
// Its header, then what is asked for, each byte held against a digest before it is believed: so one key of a checkpoint is found without
// reading all that there is to say of the others.
//
// Checks      The header carries its own digest and that of a table, which has one for each page of what follows (paged_source.h).
//             Pages are read, not mapped: a mapped file that is cut short while one reads ends the process.
// Errors      Error(corrupt, unsupported) that names the file; Error(io).
// Threads     const methods may be called from many threads at once.
#pragma once

#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "tessera/format/paged_source.h"
#include "tessera/format/sidecar.h"
#include "tessera/manifest/manifest.h"

namespace tessera::format {

class SidecarReader {
 public:
  // The version that the file says it has. Error(corrupt) for what is no sidecar.
  static uint32_t version(const ByteSource& file);

  // Reads the header and the names of all files. The source must outlive the reader. Error(unsupported) for a version other than 2.
  explicit SidecarReader(const ByteSource& file);

  // All but the files: save id, what `.metadata` is, metrics.
  const Sidecar& head() const { return head_; }
  // The same with the digests of these files, or of all. Error(corrupt) for one that the sidecar does not have.
  Sidecar with(const std::set<std::string>& files) const;
  Sidecar whole() const;

  bool has_index() const { return index_->size_bytes() > 0; }
  const ByteSource& index() const { return *index_; }
  // What the index says of a key. Nothing where it does not have it.
  std::optional<Entry> find(const std::string& key) const;

 private:
  struct Header;
  Header read_header(const ByteSource& file);
  void read_names(std::span<const std::byte> names, int64_t blocks);
  FileDigests digests_of(size_t file) const;

  Sidecar head_;
  std::vector<std::string> names_;  // of files, ascending
  std::vector<int64_t> lengths_;  // of each
  std::vector<int64_t> first_block_;  // of each, counted through all files; one more at the end
  std::unique_ptr<const PagedSource> body_;  // names, digests, index
  std::unique_ptr<const PartSource> digests_;
  std::unique_ptr<const PartSource> index_;
};

}  // namespace tessera::format
