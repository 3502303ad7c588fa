// judge: what our parsers make of bytes, for differential.py. Standard input holds cases: a kind ('p' pickle, 'z' zip, 's' safetensors),
// a u32 length, the bytes. For each, one line: "refused CODE WHAT", or "accepted JSON".
#include <cstdio>
#include <iostream>
#include <string>

#include "cli/text.h"
#include "cli/value_json.h"
#include "tessera/base/digest.h"
#include "tessera/format/safetensors.h"
#include "tessera/format/value_pickle.h"
#include "tessera/format/zip.h"

namespace tessera {
namespace {

// A pickle without storages.
class NoStorages final : public format::Storages {
 public:
  explicit NoStorages(const ByteSource& source) : source_(source) {}
  const ByteSource& source() const override { return source_; }
  bool big_endian() const override { return false; }
  format::StoragePlace storage(const std::string&) const override { throw corrupt_at(source_, 0, "no storages"); }

 private:
  const ByteSource& source_;
};

std::string pickle_json(const Bytes& bytes) {
  const MemorySource source(bytes);
  const format::Pickle pickle(bytes);
  try {
    return cli::value_json(format::decode_value(pickle.root(), NoStorages(source)));
  } catch (const format::Unknown& unknown) {
    throw Error({.code = Code::unsupported, .what = "opaque " + unknown.global});
  }
}

std::string zip_json(const Bytes& bytes) {
  const MemorySource source(bytes);
  const format::ZipReader zip(source);
  std::string out;
  for (const format::ZipRecord& record : zip.records()) {
    const Bytes content = zip.read(record, static_cast<int64_t>(bytes.size()));
    out += (out.empty() ? "[" : ", [") + cli::json_string(record.name) + ", \"" + cli::hex(content) + "\"]";
  }
  return "[" + out + "]";
}

std::string safetensors_json(const Bytes& bytes) {
  const MemorySource source(bytes);
  std::string out;
  for (const format::SafeTensor& tensor : format::read_safetensors(source).tensors) {
    const auto data = std::span(bytes).subspan(static_cast<size_t>(tensor.offset_bytes), static_cast<size_t>(tensor.length_bytes));
    out += (out.empty() ? "" : ", ") + cli::json_string(tensor.key) + ": [\"" + std::string(name(tensor.dtype)) + "\", " +
           cli::sizes_json(tensor.sizes) + ", \"" + cli::hex(data) + "\"]";
  }
  return "{" + out + "}";
}

std::string judged(char kind, const Bytes& bytes) {
  const auto outcome = capture([&] { return kind == 'p' ? pickle_json(bytes) : kind == 'z' ? zip_json(bytes) : safetensors_json(bytes); });
  return outcome ? "accepted " + *outcome.value
                 : std::string("refused ") + name(outcome.fault.code) + " " + cli::printable(outcome.fault.what);
}

}  // namespace
}  // namespace tessera

int main() {
  char kind = 0;
  uint32_t size = 0;
  while (std::cin.get(kind) && std::cin.read(reinterpret_cast<char*>(&size), sizeof size)) {
    tessera::Bytes bytes(size);
    if (!std::cin.read(reinterpret_cast<char*>(bytes.data()), size)) return 2;
    std::printf("%s\n", tessera::judged(kind, bytes).c_str());
  }
  return 0;
}
