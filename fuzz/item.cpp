// One item of a .distcp file, read as a tensor and as an object.
#include "fuzz/tensors.h"

namespace tessera::fuzz {
namespace {

void read_as_tensor(const ByteSource& source) {
  format::TensorItem tensor;
  if (!accepted([&] { tensor = format::read_tensor_item(source); })) return;
  check_places(tensor, source.size_bytes());
  if (const auto elements = elements_of(tensor, source)) check_written(tensor.dtype, tensor.sizes, *elements);
}

void read_as_object(const ByteSource& source, std::span<const std::byte> bytes) {
  Value value;
  if (!accepted([&] { value = format::read_object_item(source); })) return;
  if (const auto* opaque = value.as<Value::Opaque>()) {
    require(std::ranges::equal(opaque->archive, bytes), "an opaque object keeps its archive");
    require(!opaque->global.empty(), "an opaque object says what it is");
  }
  Bytes written;
  if (!accepted([&] { written = format::write_object_item(value); }, {Code::unsupported, Code::limit, Code::invalid_argument})) return;
  require(format::read_object_item(MemorySource(written, "again")) == value, "an object is the same once written and read");
}

}  // namespace
}  // namespace tessera::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace tessera::fuzz;
  const auto bytes = bytes_of(data, size);
  const tessera::MemorySource source(bytes, "fuzz");
  read_as_tensor(source);
  read_as_object(source, bytes);
  return 0;
}
