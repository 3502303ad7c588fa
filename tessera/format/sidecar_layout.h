// tessera/format/sidecar_layout.h: what the versions of a sidecar have in common, for those who read and write its bytes.
#pragma once

#include <bit>
#include <map>
#include <string>

#include "tessera/base/bytes.h"
#include "tessera/base/digest.h"
#include "tessera/format/sidecar.h"

namespace tessera::format {

// No text: a line end and a byte above 127 tell at once when something took the file for one.
inline constexpr std::string_view sidecar_magic{"\x89tessera\r\n\x1a\n\0\0\0\0", 16};
inline constexpr size_t longest_save_id = 1024;

inline Error bad_sidecar(std::string what, Code code = Code::corrupt) {
  return Error({.code = code, .what = std::move(what), .file = sidecar_file});
}

// Runs `work`, which reads a part of a sidecar; an Error that knows no file gets its name.
template <class Work>
auto in_sidecar(Work work) {
  try {
    return work();
  } catch (const Error& error) {
    if (!error.fault().file.empty()) throw;
    throw bad_sidecar(error.fault().what);
  }
}

inline Digest get_digest(ByteReader& in) {
  Digest digest;
  std::ranges::copy(in.get_raw(digest.size()), digest.begin());
  return digest;
}

inline int64_t get_length(ByteReader& in) {
  const auto length = in.get<int64_t>();
  if (length < 0) throw bad_sidecar("a negative length");
  return length;
}

inline int64_t get_block_bytes(ByteReader& in) {
  const auto bytes = in.get<int64_t>();
  const bool sane = bytes >= (int64_t{4} << 10) && bytes <= (int64_t{8} << 20) && std::has_single_bit(static_cast<uint64_t>(bytes));
  if (!sane) throw bad_sidecar("blocks of a size that cannot be");
  return bytes;
}

// Names come in ascending order, each once: one content has one encoding.
inline std::string get_name_after(ByteReader& in, const std::string* before) {
  std::string name = in.get_string();
  if (before && name <= *before) throw bad_sidecar("names that are not in order");
  return name;
}

inline void put_metrics(ByteWriter& out, const std::map<std::string, double>& metrics) {
  out.put<uint64_t>(metrics.size());
  for (const auto& [name, value] : metrics) {
    out.put_string(name);
    out.put(value);
  }
}

inline std::map<std::string, double> get_metrics(ByteReader& in) {
  std::map<std::string, double> metrics;
  for (size_t left = in.get_count(16); left > 0; --left) {
    std::string name = get_name_after(in, metrics.empty() ? nullptr : &metrics.rbegin()->first);
    metrics.emplace_hint(metrics.end(), std::move(name), in.get<double>());
  }
  return metrics;
}

}  // namespace tessera::format
