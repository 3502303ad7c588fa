#include "tests/support/overlay_storage.h"

#include <set>

namespace tessera {
namespace {

Path below(const Path& directory, const std::string& name) { return directory.empty() ? name : directory + "/" + name; }

[[noreturn]] void refuse() { throw Error({.code = Code::unsupported, .what = "an overlay is for reading only"}); }

class SharedSource final : public ByteSource {
 public:
  SharedSource(std::shared_ptr<const Bytes> bytes, Path file) : bytes_(std::move(bytes)), source_(*bytes_, std::move(file)) {}
  int64_t size_bytes() const override { return source_.size_bytes(); }
  void read(int64_t offset_bytes, std::span<std::byte> into) const override { source_.read(offset_bytes, into); }
  std::string file() const override { return source_.file(); }
  int64_t origin_bytes() const override { return 0; }

 private:
  const std::shared_ptr<const Bytes> bytes_;
  const MemorySource source_;
};

void add_files(const Storage& storage, const Path& directory, const Path& name, Files& files) {
  for (const DirectoryEntry& entry : storage.list(directory)) {
    const Path path = below(directory, entry.name);
    if (entry.is_directory) {
      add_files(storage, path, below(name, entry.name), files);
      continue;
    }
    const auto source = storage.open(path);
    Bytes bytes(static_cast<size_t>(source->size_bytes()));
    source->read(0, bytes);
    files.emplace(below(name, entry.name), std::make_shared<const Bytes>(std::move(bytes)));
  }
}

}  // namespace

Files files_of(const Storage& storage, const Path& directory) {
  Files files;
  add_files(storage, directory, "", files);
  return files;
}

OverlayStorage::OverlayStorage(Files files, Changes changes) : files_(std::move(files)) {
  for (auto& [path, bytes] : changes) {
    if (bytes) files_[path] = std::make_shared<const Bytes>(std::move(*bytes));
    else files_.erase(path);
  }
}

std::unique_ptr<ByteSource> OverlayStorage::open(const Path& file) const {
  const auto found = files_.find(file);
  if (found == files_.end()) throw Error({.code = Code::not_found, .what = "no such file", .file = file});
  return std::make_unique<SharedSource>(found->second, file);
}

std::vector<DirectoryEntry> OverlayStorage::list(const Path& directory) const {
  const Path prefix = directory.empty() ? "" : directory + "/";
  std::set<std::pair<std::string, bool>> names;
  for (const auto& [path, bytes] : files_) {
    if (!path.starts_with(prefix)) continue;
    const size_t end = path.find('/', prefix.size());
    names.emplace(path.substr(prefix.size(), end == Path::npos ? end : end - prefix.size()), end != Path::npos);
  }
  if (names.empty() && !directory.empty()) throw Error({.code = Code::not_found, .what = "no such directory", .file = directory});
  std::vector<DirectoryEntry> entries;
  for (const auto& [name, is_directory] : names) entries.push_back({name, is_directory});
  return entries;
}

bool OverlayStorage::exists(const Path& path) const {
  if (path.empty() || files_.contains(path)) return true;
  const auto next = files_.lower_bound(path + "/");
  return next != files_.end() && next->first.starts_with(path + "/");
}

std::unique_ptr<FileWriter> OverlayStorage::create(const Path&) { refuse(); }
Path OverlayStorage::stage(const Path&, const std::string&) { refuse(); }
void OverlayStorage::sync(const Path&) { refuse(); }
void OverlayStorage::commit(const Path&, const Path&, const std::string&, Replace, const MayReplace&) { refuse(); }
void OverlayStorage::commit_file(const Path&, const Path&, Replace) { refuse(); }
void OverlayStorage::remove(const Path&) { refuse(); }

}  // namespace tessera
