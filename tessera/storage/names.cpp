#include "tessera/storage/names.h"

#include <algorithm>

#include "tessera/base/digest.h"

namespace tessera {
namespace {

constexpr std::string_view staging_prefix = ".tessera-";
constexpr std::string_view trash_prefix = ".tessera-trash-";
constexpr std::string_view aside_prefix = ".tessera-aside-";
constexpr size_t id_digits = 32;

}  // namespace

std::string staging_name(const std::string& id) {
  std::string name = std::string(staging_prefix) + id;
  if (!is_staging_name(name) || names_of(name).size() != 1)
    throw Error({.code = Code::invalid_argument, .what = "not an id for a save: '" + id + "'"});
  return name;
}
std::string aside_name() { return std::string(aside_prefix) + random_id(); }
std::string trash_name() { return std::string(trash_prefix) + random_id(); }
bool is_aside_name(const std::string& name) { return name.starts_with(aside_prefix); }
bool is_trash_name(const std::string& name) { return name.starts_with(trash_prefix); }
bool is_staging_name(const std::string& name) {
  return name.starts_with(staging_prefix) && name.size() > staging_prefix.size() && !is_trash_name(name) && !is_aside_name(name);
}
bool is_leftover_name(const std::string& name) {
  const std::string_view prefix = is_trash_name(name) ? trash_prefix : staging_prefix;
  if (!name.starts_with(prefix) || name.size() != prefix.size() + id_digits) return false;
  return name.find_first_not_of("0123456789abcdef", prefix.size()) == std::string::npos;
}
void refuse_own_names(const Path& target) {
  for (const std::string& name : names_of(target)) {
    if (!name.starts_with(staging_prefix)) continue;
    throw Error({.code = Code::invalid_argument,
                 .what = "'" + name + "' begins as the names of unfinished saves do",
                 .file = target,
                 .hint = "choose another name"});
  }
}

bool is_of_unfinished_save(const DirectoryEntry& entry) {
  return entry.is_directory && (is_staging_name(entry.name) || is_trash_name(entry.name));
}

std::vector<std::string> names_of(const Path& path) {
  std::vector<std::string> names;
  if (path.empty()) return names;
  for (size_t begin = 0; begin <= path.size();) {
    const size_t end = std::min(path.find('/', begin), path.size());
    std::string name = path.substr(begin, end - begin);
    if (name.empty() || name == "." || name == ".." || name.find('\0') != std::string::npos) {
      throw Error({.code = Code::invalid_argument, .what = "not a path below the root: '" + path + "'"});
    }
    names.push_back(std::move(name));
    begin = end + 1;
  }
  return names;
}

Split split(const Path& path) {
  const size_t slash = path.rfind('/');
  if (slash == std::string::npos) return {"", path};
  return {path.substr(0, slash), path.substr(slash + 1)};
}

Path below(const Path& directory, const std::string& name) { return directory.empty() ? name : directory + "/" + name; }

}  // namespace tessera
