#include "tessera/checkpoint/open.h"

#include <algorithm>
#include <array>
#include <map>

#include "tessera/checkpoint/safetensors_manifest.h"
#include "tessera/format/dcp.h"
#include "tessera/storage/names.h"

namespace tessera {
namespace {

std::string rank_metadata_file(int rank) { return "__" + std::to_string(rank) + ".metadata"; }

bool is_directory(const Storage& storage, const Path& path) {
  if (path.empty()) return true;
  const auto [parent, name] = split(path);
  const auto entries = capture([&, &parent = parent] { return storage.list(parent); });
  // Where the parent cannot be listed, it is tried.
  if (!entries) return bool(capture([&] { return storage.list(path); }));
  return std::ranges::any_of(*entries.value,
                             [&, &name = name](const DirectoryEntry& entry) { return entry.name == name && entry.is_directory; });
}

bool is_safetensors(const ByteSource& file) {
  std::array<std::byte, 9> head{};
  if (file.size_bytes() < static_cast<int64_t>(head.size())) return false;
  file.read(0, head);
  return head[8] == std::byte{'{'};
}

Manifest manifest_of(const format::TorchFile& content, const std::string& file) {
  Manifest manifest;
  for (const auto& [key, leaf] : content.leaves) {
    Entry& entry = manifest.entries[key];
    entry.path = leaf.path;
    const auto* place = std::get_if<size_t>(&leaf.is);
    if (!place) {
      entry.is = ObjectEntry{{file, 0, 0, {}}};
      continue;
    }
    const format::TensorItem& tensor = content.tensors[*place];
    entry.is = TensorEntry{tensor.dtype, tensor.sizes, {{whole(tensor.sizes), {file, tensor.data_offset_bytes, tensor.data_bytes, {}}}}};
  }
  validate(manifest);
  return manifest;
}

Opened open_torch_file(const Storage& storage, const Path& path, const OpenOptions& options) {
  std::shared_ptr<const ByteSource> file = storage.open(path);
  format::TorchFile content = format::read_torch_file(*file, options.limits);
  Manifest manifest = manifest_of(content, split(path).name);
  return {Format::torch_save, std::move(manifest), torch_items(std::move(file), std::move(content))};
}

Opened open_head(std::shared_ptr<const Storage> storage, const Path& path, Head head, const OpenOptions& options) {
  Checks checks{.sidecar = options.verify ? head.sidecar : nullptr, .crcs = options.verify, .ours = head.sidecar != nullptr};
  return {Format::dcp, std::move(head.manifest), archive_items(std::move(storage), path, options.limits, std::move(checks)),
          std::move(head.sidecar)};
}

// Leaves the other keys out.
Opened only(Opened opened, const std::vector<std::string>& keys) {
  if (keys.empty()) return opened;
  std::map<std::string, Entry> wanted;
  for (const std::string& key : keys) {
    if (wanted.contains(key)) continue;
    auto entry = opened.manifest.entries.extract(key);
    if (!entry) throw Error({.code = Code::not_found, .what = "the checkpoint has no key '" + key + "'"});
    wanted.insert(std::move(entry));
  }
  opened.manifest.entries = std::move(wanted);
  return opened;
}

Opened open_any(std::shared_ptr<const Storage> storage, const Path& path, const OpenOptions& options) {
  switch (format_at(*storage, path)) {
    case Format::dcp: {
      Head head = options.keys.empty() ? decode_head(read_head(*storage, path, options.limits), options.limits)
                                       : read_head_of(*storage, path, options.keys, options.limits);
      return open_head(std::move(storage), path, std::move(head), options);
    }
    case Format::dcp_rank_local: {
      const std::string file = rank_metadata_file(options.rank);
      const Bytes metadata = read_file(*storage, below(path, file), options.limits.metadata_bytes);
      Manifest manifest = format::decode_metadata(metadata, options.limits, file);
      return {Format::dcp_rank_local, std::move(manifest),
              archive_items(std::move(storage), path, options.limits, {.crcs = options.verify})};
    }
    case Format::safetensors: {
      const bool one = !is_directory(*storage, path);
      const Path directory = one ? split(path).parent : path;
      Manifest manifest = one ? safetensors_manifest(*storage, directory, {split(path).name}, false, options.limits)
                              : safetensors_manifest(*storage, directory, safetensors_files(*storage, directory), true, options.limits);
      return {Format::safetensors, std::move(manifest), raw_items(std::move(storage), directory)};
    }
    case Format::torch_save: return open_torch_file(*storage, path, options);
  }
  throw Error({.code = Code::internal, .what = "a format of no kind"});
}

}  // namespace

const char* name(Format format) {
  switch (format) {
    case Format::dcp: return "dcp";
    case Format::dcp_rank_local: return "dcp, each rank for itself";
    case Format::safetensors: return "safetensors";
    case Format::torch_save: return "torch.save";
  }
  return "?";
}

int rank_local_ranks(const Storage& storage, const Path& path) {
  int ranks = 0;
  while (storage.exists(below(path, rank_metadata_file(ranks)))) ++ranks;
  return ranks;
}

Format format_at(const Storage& storage, const Path& path) {
  if (storage.exists(path) && !is_directory(storage, path)) {
    const auto file = storage.open(path);
    if (format::is_torch_file(*file)) return Format::torch_save;
    if (is_safetensors(*file)) return Format::safetensors;
    throw Error({.code = Code::unsupported,
                 .what = "neither safetensors nor torch.save",
                 .file = path,
                 .hint = "a checkpoint is a DCP directory, a directory of safetensors files, or one file of either kind"});
  }
  if (storage.exists(below(path, format::metadata_file))) return Format::dcp;
  if (storage.exists(below(path, rank_metadata_file(0)))) return Format::dcp_rank_local;
  if (storage.exists(path) && !safetensors_files(storage, path).empty()) return Format::safetensors;
  return Format::dcp;  // reading its metadata says what is missing
}

Opened open_with(std::shared_ptr<const Storage> storage, const Path& path, const HeadBytes& bytes, const OpenOptions& options) {
  return only(open_head(std::move(storage), path, decode_head(bytes, options.limits), options), options.keys);
}

Opened open_at(std::shared_ptr<const Storage> storage, const Path& path, const OpenOptions& options) {
  return only(open_any(std::move(storage), path, options), options.keys);
}

}  // namespace tessera
