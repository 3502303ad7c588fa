// tessera/exchange/convert.h: one checkpoint into another of any format, in bounded memory whatever the model's size.
// Publish     As a save: staged beside the target under a name of our own, synced, and then there at once (checkpoint/publish.h). A
//             conversion that is cut short leaves the source untouched, the target as it was, and its staging directory behind.
// Checks      Checksums of the source are checked as its bytes go by; the report says how many bytes had none.
// Errors      Error(exists) where the target is taken; Error(unsupported) naming the key where the target's format cannot hold it;
//             what reading and writing say.
// Memory      `memory_bytes`, and what the metadata and one object take.
// Threads     One thread at a time.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "tessera/checkpoint/checkpoint.h"

namespace tessera {

struct ConvertOptions {
  std::optional<Format> to;  // else by the target's name: *.safetensors, *.pt, *.pth, *.bin; a DCP directory for all others
  KeyFilter filter = {};
  std::vector<CastRule> casts = {};
  bool tensors_only = false;                      // leaves objects out, which safetensors cannot hold
  int ranks = 1;                                  // DCP: how many files the tensors are spread over, each sharded by rows
  int64_t file_bytes = int64_t{5} << 30;          // safetensors directory: about the size of one file
  int64_t memory_bytes = int64_t{256} << 20;
  Replace replace = Replace::never;
  std::function<void(int64_t done_bytes, int64_t total_bytes)> progress = {};
};

struct ConvertReport {
  Format format = Format::dcp;
  int64_t tensors = 0;
  int64_t objects = 0;
  int64_t bytes = 0;                // of tensors, as written
  int64_t unverified_bytes = 0;     // of those read, not covered by a checksum
  double seconds = 0;
};

// To a path of the local file system.
ConvertReport convert(const Checkpoint& from, const std::string& to, const ConvertOptions& options = {});
ConvertReport convert(const Checkpoint& from, Storage& storage, const Path& target, const ConvertOptions& options = {});
// What a path would become.
Format format_named(const std::string& path);

}  // namespace tessera
