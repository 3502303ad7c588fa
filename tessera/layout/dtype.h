// tessera/layout/dtype.h: the element types that a checkpoint can hold, named as PyTorch names them.
// Errors      Error(corrupt) for a number that is none of them, as a damaged message may hold.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace tessera {

enum class DType : uint8_t {
  float64,
  float32,
  float16,
  bfloat16,
  int64,
  int32,
  int16,
  int8,
  uint8,
  boolean,  // one byte, 0 or 1; PyTorch's "bool"
  complex64,
  complex128,
  complex32,
  uint16,
  uint32,
  uint64,
  float8_e4m3fn,
  float8_e5m2,
  float8_e4m3fnuz,
  float8_e5m2fnuz,
  float8_e8m0fnu,
  float4_e2m1fn_x2,  // two values in a byte; shapes count bytes
};

// Bytes of one element.
int64_t element_bytes(DType dtype);
// Bytes of the unit whose order "big-endian" reverses: half an element for complex numbers.
int64_t swap_bytes(DType dtype);
// "float32", "bool", …: the attribute of module torch.
std::string_view name(DType dtype);
std::optional<DType> dtype_named(std::string_view name);

}  // namespace tessera
