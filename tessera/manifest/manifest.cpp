#include "tessera/manifest/manifest.h"

#include <string_view>

namespace tessera {
namespace {

std::string quoted(const std::string& key) { return "'" + key + "'"; }

// A relative path without anything that could lead out of the directory.
bool is_safe_file(std::string_view file) {
  size_t begin = 0;
  for (size_t i = 0; i <= file.size(); ++i) {
    if (i < file.size() && (file[i] == '\0' || file[i] == '\\')) return false;
    if (i < file.size() && file[i] != '/') continue;
    const std::string_view name = file.substr(begin, i - begin);
    if (name.empty() || name == "." || name == "..") return false;
    begin = i + 1;
  }
  return true;
}

void check_extent(const std::string& key, const Extent& at) {
  const auto fail = [&](const std::string& what) {
    throw Error({.code = Code::corrupt, .what = what + " of " + quoted(key), .file = ".metadata"});
  };
  if (!is_safe_file(at.file)) fail("the unsafe file name '" + at.file + "'");
  if (at.offset_bytes < 0) fail("a negative file offset");
  if (at.length_bytes < 0) fail("a negative length");
  int64_t end = 0;
  if (__builtin_add_overflow(at.offset_bytes, at.length_bytes, &end)) fail("an offset + length beyond 64 bits");
}

}  // namespace

void validate(const Manifest& manifest) {
  for (const auto& [key, entry] : manifest.entries) {
    if (const auto* object = std::get_if<ObjectEntry>(&entry.is)) {
      check_extent(key, object->at);
      continue;
    }
    const auto& tensor = std::get<TensorEntry>(entry.is);
    for (const Chunk& chunk : tensor.chunks) check_extent(key, chunk.at);
    check_tiling(key, tensor, Code::corrupt);
    int64_t bytes = 0;
    if (__builtin_mul_overflow(volume(tensor.sizes), element_bytes(tensor.dtype), &bytes)) {
      throw Error({.code = Code::corrupt, .what = "the bytes of " + quoted(key) + " overflow 64 bits"});
    }
  }
}

}  // namespace tessera
