#include "tessera/checkpoint/standing.h"

#include <algorithm>

#include "tessera/checkpoint/head.h"
#include "tessera/format/dcp.h"
#include "tessera/storage/names.h"

namespace tessera {
namespace {

// The sidecar is small and says it; without one, `.metadata` does.
std::string save_id_of(const Storage& storage, const Path& directory, const Bytes& metadata) {
  const auto sidecar = capture([&] {
    return format::decode_sidecar(read_file(storage, directory + "/" + format::sidecar_file, format::Limits{}.metadata_bytes)).save_id;
  });
  if (sidecar) return *sidecar.value;
  return capture([&] { return format::decode_metadata(metadata).save_id; }).value.value_or("");
}

}  // namespace

Standing standing_at(const Storage& storage, const Path& directory) {
  if (!storage.exists(directory)) return {};
  const auto entries = capture([&] { return storage.list(directory); });
  if (!entries && entries.fault.code == Code::not_found) return {.kind = Standing::Kind::files};  // it is no directory
  if (std::ranges::all_of(Outcome(entries).or_throw(), is_of_unfinished_save)) return {};
  if (!storage.exists(directory + "/" + format::metadata_file)) return {.kind = Standing::Kind::files};
  Standing standing{.kind = Standing::Kind::checkpoint};
  const auto metadata =
      capture([&] { return read_file(storage, directory + "/" + format::metadata_file, format::Limits{}.metadata_bytes); });
  if (!metadata) {
    // A file that cannot be read just now tells nothing; one that is no such file, or too large, is somebody's damage.
    if (metadata.fault.os_errno != 0) throw Error(metadata.fault);
    return standing;
  }
  standing.metadata = digest(*metadata.value);
  standing.save_id = save_id_of(storage, directory, *metadata.value);
  return standing;
}

std::string describe(const Standing& standing) {
  switch (standing.kind) {
    case Standing::Kind::nothing: return "nothing";
    case Standing::Kind::files: return "files that are no checkpoint";
    case Standing::Kind::checkpoint: break;
  }
  return standing.save_id.empty() ? "a checkpoint of another tool, or a damaged one" : "save " + standing.save_id;
}

}  // namespace tessera
