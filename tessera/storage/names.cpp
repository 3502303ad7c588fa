#include "tessera/storage/names.h"

#include <algorithm>

#include "tessera/base/digest.h"

namespace tessera {
namespace {

constexpr std::string_view staging_prefix = ".tessera-";
constexpr std::string_view trash_prefix = ".tessera-trash-";

}  // namespace

std::string staging_name(const std::string& id) {
  std::string name = std::string(staging_prefix) + id;
  if (!is_staging_name(name) || names_of(name).size() != 1)
    throw Error({.code = Code::invalid_argument, .what = "not an id for a save: '" + id + "'"});
  return name;
}
std::string trash_name() { return std::string(trash_prefix) + random_id(); }
bool is_trash_name(const std::string& name) { return name.starts_with(trash_prefix); }
bool is_staging_name(const std::string& name) {
  return name.starts_with(staging_prefix) && name.size() > staging_prefix.size() && !is_trash_name(name);
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

}  // namespace tessera
