// tessera/format/sidecar.h: the file `.tessera` beside `.metadata`: what every byte of a checkpoint was when it was published.
// Stock PyTorch ignores it. Layout, byte by byte, in docs/format.md.
// Promises    decode() accepts exactly what encode() writes, now and in version 1: the file ends with a digest of all before it.
// Errors      Error(corrupt, unsupported or limit) that names the file. Nothing is allocated from a number that the file's own size
//             does not bear out.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "tessera/base/bytes.h"
#include "tessera/base/digest.h"

namespace tessera::format {

inline constexpr const char* sidecar_file = ".tessera";
// Version 2 added the index (sidecar_index.h) and the digests by which parts of a sidecar are read alone (sidecar_reader.h).
inline constexpr int sidecar_version = 2;
// From this version in its name tag on, `.metadata` promises a sidecar, of whatever version.
inline constexpr int promised_since = 1;

// Of one file: its length, and a digest of each block. All blocks are as long, but for the last.
struct FileDigests {
  int64_t length_bytes = 0;
  std::vector<Digest> blocks;
  bool operator==(const FileDigests&) const = default;
};

struct Sidecar {
  std::string save_id;
  int64_t metadata_bytes = 0;
  Digest metadata = {};      // of all of `.metadata`
  Digest metadata_ends = {};  // digest_of_ends() of it; zeros in version 1
  int64_t block_bytes = 0;   // of every file's blocks: a power of two from 4 KiB to 8 MiB
  std::map<std::string, FileDigests> files;  // by name, as in `.metadata`; `.metadata` itself is not among them
  std::map<std::string, double> metrics;     // what the trainer measured at this step ("loss")
  bool operator==(const Sidecar&) const = default;
};

// How many blocks a file of this length has.
int64_t block_count(int64_t length_bytes, int64_t block_bytes);

// Of the first 4 KiB and the last 4 KiB of `.metadata`, or of what there is: enough to tell that the file is the one that was published,
// unless something inside it was damaged.
Digest digest_of_ends(std::span<const std::byte> metadata);
inline constexpr int64_t end_bytes = int64_t{4} << 10;

// Without an index, keys are found by decoding `.metadata`. Error(invalid_argument) for a save id of more than 1 KiB.
Bytes encode_sidecar(const Sidecar& sidecar, std::span<const std::byte> index = {});
// Of the whole file; the index is checked by its digests only.
Sidecar decode_sidecar(std::span<const std::byte> bytes);

}  // namespace tessera::format
