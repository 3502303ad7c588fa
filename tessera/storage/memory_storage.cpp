#include "tessera/storage/memory_storage.h"

#include <algorithm>
#include <mutex>
#include <set>

#include "tessera/storage/names.h"

namespace tessera {
namespace {

bool is_below(const Path& path, const Path& directory) { return directory.empty() || path.starts_with(directory + "/"); }

bool has_directory(const auto& nodes, const Path& path) {
  if (path.empty()) return true;
  const auto found = nodes.find(path);
  return found != nodes.end() && !found->second;
}

bool is_empty(const auto& nodes, const Path& directory) {
  return std::ranges::none_of(nodes, [&](const auto& node) { return is_below(node.first, directory); });
}

// Moves a directory with all below it.
void move_tree(auto& nodes, const Path& from, const Path& to) {
  std::remove_reference_t<decltype(nodes)> moved;
  for (auto node = nodes.begin(); node != nodes.end();) {
    if (node->first == from || is_below(node->first, from)) {
      moved.emplace(to + node->first.substr(from.size()), std::move(node->second));
      node = nodes.erase(node);
    } else {
      ++node;
    }
  }
  nodes.merge(moved);
}

void remove_tree(auto& nodes, const Path& path) {
  std::erase_if(nodes, [&](const auto& node) { return node.first == path || is_below(node.first, path); });
}

void refuse_other_than_directory(const auto& nodes, const Path& path) {
  if (nodes.contains(path) && !has_directory(nodes, path)) {
    throw Error({.code = Code::exists, .what = "something is there that is no directory", .file = path});
  }
}

}  // namespace

class MemoryStorage::Writer final : public FileWriter {
 public:
  explicit Writer(Content content) : content_(std::move(content)) {}
  void write(int64_t offset_bytes, std::span<const std::byte> bytes) override {
    if (offset_bytes < 0) throw Error({.code = Code::invalid_argument, .what = "write before the beginning", .offset_bytes = offset_bytes});
    if (bytes.empty()) return;  // as for a file: nothing grows it but bytes
    const auto end = static_cast<size_t>(offset_bytes) + bytes.size();
    std::lock_guard lock(grows_);
    if (content_->size() < end) content_->resize(end);
    std::ranges::copy(bytes, content_->begin() + offset_bytes);
  }
  int64_t close() override { return static_cast<int64_t>(content_->size()); }

 private:
  std::mutex grows_;
  const Content content_;
};

class MemoryStorage::Source final : public ByteSource {
 public:
  Source(Content content, Path file) : content_(std::move(content)), bytes_(*content_, std::move(file)) {}
  int64_t size_bytes() const override { return bytes_.size_bytes(); }
  void read(int64_t offset_bytes, std::span<std::byte> into) const override { bytes_.read(offset_bytes, into); }
  std::string file() const override { return bytes_.file(); }
  int64_t origin_bytes() const override { return 0; }

 private:
  const Content content_;
  const MemorySource bytes_;
};

std::unique_ptr<FileWriter> MemoryStorage::create(const Path& file) {
  const Split place = split(file);
  names_of(file);
  return tree_.with([&](Tree& tree) {
    if (!has_directory(tree.nodes, place.parent)) throw Error({.code = Code::not_found, .what = "no such directory", .file = place.parent});
    auto content = std::make_shared<std::vector<std::byte>>();
    if (!tree.nodes.emplace(file, content).second) throw Error({.code = Code::exists, .what = "the file exists", .file = file});
    return std::make_unique<Writer>(std::move(content));
  });
}

std::unique_ptr<ByteSource> MemoryStorage::open(const Path& file) const {
  names_of(file);
  return tree_.with([&](Tree& tree) {
    const auto found = tree.nodes.find(file);
    if (found == tree.nodes.end()) throw Error({.code = Code::not_found, .what = "no such file", .file = file});
    if (!found->second) throw Error({.code = Code::io, .what = "not a regular file", .file = file});
    return std::make_unique<Source>(found->second, file);
  });
}

std::vector<DirectoryEntry> MemoryStorage::list(const Path& directory) const {
  names_of(directory);
  return tree_.with([&](Tree& tree) {
    if (!has_directory(tree.nodes, directory)) throw Error({.code = Code::not_found, .what = "no such directory", .file = directory});
    std::vector<DirectoryEntry> entries;
    for (const auto& [path, content] : tree.nodes) {
      if (is_below(path, directory) && split(path).parent == directory) entries.push_back({split(path).name, !content});
    }
    return entries;
  });
}

bool MemoryStorage::exists(const Path& path) const {
  names_of(path);
  return tree_.with([&](Tree& tree) { return path.empty() || tree.nodes.contains(path); });
}

Path MemoryStorage::stage(const Path& target, const std::string& id) {
  const std::vector<std::string> names = names_of(target);
  if (names.empty()) throw Error({.code = Code::invalid_argument, .what = "a target that names nothing"});
  refuse_own_names(target);
  const Path parent = split(target).parent;
  const Path staging = parent.empty() ? staging_name(id) : parent + "/" + staging_name(id);
  tree_.with([&](Tree& tree) {
    refuse_other_than_directory(tree.nodes, target);
    Path way;
    for (size_t i = 0; i + 1 < names.size(); ++i) {
      way += (i ? "/" : "") + names[i];
      if (!has_directory(tree.nodes, way) && !tree.nodes.try_emplace(way, nullptr).second) {
        throw Error({.code = Code::not_found, .what = "not a directory", .file = way});
      }
    }
    if (!tree.nodes.emplace(staging, nullptr).second)
      throw Error({.code = Code::exists, .what = "the staging directory exists", .file = staging});
  });
  return staging;
}

void MemoryStorage::sync(const Path& directory) { list(directory); }

void MemoryStorage::commit(const Path& staging, const Path& target, const std::string& last, Replace replace,
                           const MayReplace& may_replace) {
  names_of(target);
  const auto full = [&](const Tree& tree) { return tree.nodes.contains(target) && !is_empty(tree.nodes, target); };
  if (may_replace && replace != Replace::never && tree_.with(full)) may_replace(target);
  const Path old = staging + ".old";
  const bool swapped = tree_.with([&](Tree& tree) {
    if (!tree.nodes.contains(staging + "/" + last)) {
      throw Error({.code = Code::not_found, .what = "the staged directory is not complete", .file = staging});
    }
    refuse_other_than_directory(tree.nodes, target);
    const bool replaces = full(tree);
    if (replace == Replace::never && replaces) throw Error({.code = Code::exists, .what = "something is there already", .file = target});
    move_tree(tree.nodes, target, old);
    move_tree(tree.nodes, staging, target);
    return replaces;
  });
  // Asked outside the lock, as it will read what stands there.
  const auto allowed = capture([&] {
    if (may_replace && swapped) may_replace(old);
  });
  tree_.with([&](Tree& tree) {
    if (allowed) return remove_tree(tree.nodes, old);
    move_tree(tree.nodes, target, staging);
    move_tree(tree.nodes, old, target);
  });
  if (!allowed) throw Error(allowed.fault);
}

void MemoryStorage::commit_file(const Path& staged, const Path& target, Replace replace) {
  names_of(target);
  tree_.with([&](Tree& tree) {
    const auto from = tree.nodes.find(staged);
    if (from == tree.nodes.end()) throw Error({.code = Code::not_found, .what = "no such file", .file = staged});
    const auto to = tree.nodes.find(target);
    if (to != tree.nodes.end() && (replace == Replace::never || !to->second)) {
      throw Error({.code = Code::exists, .what = "something is there already", .file = target});
    }
    tree.nodes[target] = from->second;
    tree.nodes.erase(staged);
  });
}

void MemoryStorage::remove(const Path& directory) {
  if (names_of(directory).empty()) throw Error({.code = Code::invalid_argument, .what = "a path that names nothing"});
  tree_.with([&](Tree& tree) {
    refuse_other_than_directory(tree.nodes, directory);
    remove_tree(tree.nodes, directory);
  });
}

}  // namespace tessera
