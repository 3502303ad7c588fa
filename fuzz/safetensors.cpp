// Safetensors files: the tensors fill the data exactly, and what was read is the same once written and read again.
#include "tessera/format/safetensors.h"

#include <algorithm>

#include "fuzz/properties.h"
#include "tessera/base/checked.h"

namespace tessera::fuzz {
namespace {

using format::SafeTensor;
using format::SafetensorsFile;

void check(const SafetensorsFile& file, int64_t size_bytes) {
  int64_t end = file.tensors.empty() ? size_bytes : file.tensors.front().offset_bytes;
  for (const SafeTensor& tensor : file.tensors) {
    require(tensor.offset_bytes == end && end >= 8, "tensors stand one after the other, after the header");
    require(tensor.length_bytes == checked_volume(tensor.sizes) * element_bytes(tensor.dtype), "a tensor is as long as its shape says");
    end += tensor.length_bytes;
  }
  require(end == size_bytes, "the last tensor ends where the file does");
}

bool by_key(const SafeTensor& a, const SafeTensor& b) { return a.key < b.key; }
bool alike(const SafeTensor& a, const SafeTensor& b) { return a.key == b.key && a.dtype == b.dtype && a.sizes == b.sizes; }

}  // namespace
}  // namespace tessera::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace tessera;
  using namespace tessera::fuzz;
  SafetensorsFile file;
  const MemorySource source(bytes_of(data, size), "fuzz");
  if (!accepted([&] { file = format::read_safetensors(source); })) return 0;
  check(file, source.size_bytes());
  std::vector<SafeTensor> laid_out = file.tensors;
  Bytes bytes;
  if (!accepted([&] { bytes = format::lay_out_safetensors(laid_out, file.metadata); }, {Code::unsupported, Code::limit})) return 0;
  for (const SafeTensor& tensor : laid_out) bytes.resize(bytes.size() + static_cast<size_t>(tensor.length_bytes));
  const MemorySource second(bytes, "again");
  SafetensorsFile again = format::read_safetensors(second);
  check(again, second.size_bytes());
  require(again.metadata == file.metadata && again.saved_offsets == file.saved_offsets, "metadata is the same once written and read");
  std::ranges::sort(file.tensors, by_key);
  std::ranges::sort(again.tensors, by_key);
  require(std::ranges::equal(file.tensors, again.tensors, alike), "tensors are the same once written and read");
  return 0;
}
