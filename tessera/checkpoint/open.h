// tessera/checkpoint/open.h: what a path holds, told by its content: a DCP directory, safetensors, or a torch.save file. All become a
// Manifest and the items that it names.
//   directory with `.metadata`                  DCP
//   directory with `__0.metadata`, …            DCP of ranks that saved each for itself (stock's use_collectives=False)
//   directory with *.safetensors                safetensors: the files of an index if there is one, else all of them; files of one rank
//                                               each (stock's save_distributed=True) are put together
//   file                                        safetensors, or torch.save in either form
// Errors      Error(not_found) with a hint where there is nothing of the kind; Error(corrupt, unsupported, limit) with file and offset.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "tessera/checkpoint/head.h"
#include "tessera/format/limits.h"
#include "tessera/manifest/manifest.h"
#include "tessera/storage/storage.h"
#include "tessera/transfer/items.h"

namespace tessera {

enum class Format : uint8_t { dcp, dcp_rank_local, safetensors, torch_save };
// "dcp", "dcp, each rank for itself", "safetensors", "torch.save".
const char* name(Format format);

struct OpenOptions {
  int rank = 0;  // whose state, where each rank saved for itself
  format::Limits limits = {};
  bool verify = true;  // false trusts the disk: neither digests nor checksums of tensor data are looked at
  // Nothing but these keys, each of which must be there: Error(not_found) else. Empty takes all. A checkpoint of ours is then opened
  // through the index of its sidecar, in a time that hardly depends on how much else is in it (head.h, read_head_of).
  std::vector<std::string> keys = {};
};

struct Opened {
  Format format = Format::dcp;
  Manifest manifest;
  std::shared_ptr<const Items> items;
  std::shared_ptr<const format::Sidecar> sidecar = {};  // of a DCP directory that has one
};

Format format_at(const Storage& storage, const Path& path);
Opened open_at(std::shared_ptr<const Storage> storage, const Path& path, const OpenOptions& options = {});
// A DCP directory whose head somebody has read already.
Opened open_with(std::shared_ptr<const Storage> storage, const Path& path, const HeadBytes& head, const OpenOptions& options);
// How many ranks saved each for itself.
int rank_local_ranks(const Storage& storage, const Path& path);

}  // namespace tessera
