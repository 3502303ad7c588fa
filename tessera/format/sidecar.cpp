#include "tessera/format/sidecar.h"

#include <bit>
#include <cassert>

namespace tessera::format {
namespace {

// No text: a line end and a byte above 127 tell at once when something took the file for one.
using namespace std::string_view_literals;
constexpr std::string_view magic = "\x89tessera\r\n\x1a\n\0\0\0\0"sv;
static_assert(magic.size() == 16);
constexpr int64_t least_block_bytes = int64_t{4} << 10;
constexpr int64_t most_block_bytes = int64_t{8} << 20;

Error bad(std::string what, Code code = Code::corrupt) { return Error({.code = code, .what = std::move(what), .file = sidecar_file}); }

void put(ByteWriter& out, const Digest& digest) { out.put_raw(digest); }
Digest get_digest(ByteReader& in) {
  Digest digest;
  std::ranges::copy(in.get_raw(digest.size()), digest.begin());
  return digest;
}

FileDigests get_file(ByteReader& in, int64_t block_bytes) {
  FileDigests file;
  file.length_bytes = in.get<int64_t>();
  if (file.length_bytes < 0) throw bad("a negative length");
  const int64_t blocks = block_count(file.length_bytes, block_bytes);
  if (static_cast<uint64_t>(blocks) > in.left() / sizeof(Digest)) throw bad("more blocks than the sidecar holds");
  file.blocks.reserve(static_cast<size_t>(blocks));
  for (int64_t b = 0; b < blocks; ++b) file.blocks.push_back(get_digest(in));
  return file;
}

// Names in ascending order, each once: one content has one encoding.
template <class Map>
std::string get_name(ByteReader& in, const Map& before) {
  std::string name = in.get_string();
  if (!before.empty() && name <= before.rbegin()->first) throw bad("names that are not in order");
  return name;
}

Sidecar decode(ByteReader& in) {
  if (as_text(in.get_raw(magic.size())) != magic) throw bad("not a sidecar of tessera's");
  const auto version = in.get<uint32_t>();
  if (version != sidecar_version)
    throw Error({.code = Code::unsupported,
                 .what = "a sidecar of version " + std::to_string(version),
                 .file = sidecar_file,
                 .hint = "update tessera to read it"});
  Sidecar sidecar;
  sidecar.block_bytes = in.get<int64_t>();
  const bool sane = sidecar.block_bytes >= least_block_bytes && sidecar.block_bytes <= most_block_bytes &&
                    std::has_single_bit(static_cast<uint64_t>(sidecar.block_bytes));
  if (!sane) throw bad("blocks of a size that cannot be");
  sidecar.save_id = in.get_string();
  sidecar.metadata_bytes = in.get<int64_t>();
  if (sidecar.metadata_bytes < 0) throw bad("a negative length");
  sidecar.metadata = get_digest(in);
  for (size_t left = in.get_count(16); left > 0; --left) {
    std::string name = get_name(in, sidecar.files);
    sidecar.files.emplace(std::move(name), get_file(in, sidecar.block_bytes));
  }
  for (size_t left = in.get_count(16); left > 0; --left) {
    std::string name = get_name(in, sidecar.metrics);
    sidecar.metrics.emplace(std::move(name), in.get<double>());
  }
  if (!in.empty()) throw bad("bytes after the end");
  return sidecar;
}

}  // namespace

int64_t block_count(int64_t length_bytes, int64_t block_bytes) { return length_bytes / block_bytes + (length_bytes % block_bytes != 0); }

Bytes encode_sidecar(const Sidecar& sidecar) {
  ByteWriter out;
  out.put_raw(as_bytes(magic));
  out.put<uint32_t>(sidecar_version);
  out.put(sidecar.block_bytes);
  out.put_string(sidecar.save_id);
  out.put(sidecar.metadata_bytes);
  put(out, sidecar.metadata);
  out.put<uint64_t>(sidecar.files.size());
  for (const auto& [name, file] : sidecar.files) {
    assert(static_cast<int64_t>(file.blocks.size()) == block_count(file.length_bytes, sidecar.block_bytes));
    out.put_string(name);
    out.put(file.length_bytes);
    for (const Digest& block : file.blocks) put(out, block);
  }
  out.put<uint64_t>(sidecar.metrics.size());
  for (const auto& [name, value] : sidecar.metrics) {
    out.put_string(name);
    out.put(value);
  }
  Bytes bytes = out.take();
  const Digest seal = digest(bytes);
  bytes.insert(bytes.end(), seal.begin(), seal.end());
  return bytes;
}

Sidecar decode_sidecar(std::span<const std::byte> bytes) {
  // The seal first: whatever is damaged is then told as damage, and nothing below sees it.
  if (bytes.size() < magic.size() + sizeof(Digest)) throw bad("file ends early");
  const auto sealed = bytes.first(bytes.size() - sizeof(Digest));
  if (!std::ranges::equal(digest(sealed), bytes.last(sizeof(Digest)))) throw bad("its bytes differ from its own digest");
  try {
    ByteReader in(sealed);
    return decode(in);
  } catch (const Error& error) {
    if (!error.fault().file.empty()) throw;
    throw bad(error.fault().what);
  }
}

}  // namespace tessera::format
