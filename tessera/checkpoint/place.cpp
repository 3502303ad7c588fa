#include "tessera/checkpoint/place.h"

#include <filesystem>

#include "tessera/base/error.h"

namespace tessera {

Place place_of(const std::string& directory) {
  namespace fs = std::filesystem;
  std::error_code failure;
  if (directory.empty()) throw Error({.code = Code::invalid_argument, .what = "an empty directory name"});
  fs::path path = fs::weakly_canonical(fs::absolute(directory, failure), failure);
  if (failure) throw Error(os_fault(failure.value(), "resolve the directory", directory));
  if (path.filename().empty()) path = path.parent_path();  // "a/b/" ends in an empty name
  if (path.filename().empty()) throw Error({.code = Code::invalid_argument, .what = "'" + directory + "' cannot hold a checkpoint"});
  return {path.parent_path().string(), path.filename().string()};
}

}  // namespace tessera
