#include "tessera/format/item.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <limits>

#include "tessera/base/digest.h"

namespace tessera::format {
namespace {

using ::testing::HasSubstr;

constexpr DType all_dtypes[] = {DType::float64,        DType::float32,         DType::float16,         DType::bfloat16,
                                DType::int64,          DType::int32,           DType::int16,           DType::int8,
                                DType::uint8,          DType::boolean,         DType::complex64,       DType::complex128,
                                DType::complex32,      DType::uint16,          DType::uint32,          DType::uint64,
                                DType::float8_e4m3fn,  DType::float8_e5m2,     DType::float8_e4m3fnuz, DType::float8_e5m2fnuz,
                                DType::float8_e8m0fnu, DType::float4_e2m1fn_x2};

Bytes tensor_item(DType dtype, const Sizes& sizes, std::span<const std::byte> data) {
  const uint32_t crc = crc32(data);
  ByteWriter out;
  out.put_raw(item_head(dtype, sizes, crc));
  out.put_raw(data);
  out.put_raw(item_tail(dtype, sizes, crc));
  return out.take();
}

TEST(Item, EveryDTypeAndShapeIsWhatItsFrameSaysAndIsReadAsItWasWritten) {
  for (const DType dtype : all_dtypes) {
    for (const Sizes& sizes : {Sizes{}, Sizes{3}, Sizes{0, 3}, Sizes{2, 3}, Sizes{2, 1, 300, 2}}) {
      Bytes data(static_cast<size_t>(volume(sizes) * element_bytes(dtype)), std::byte{7});
      const Bytes item = tensor_item(dtype, sizes, data);
      const ItemFrame frame = item_frame(dtype, sizes);
      ASSERT_EQ(static_cast<int64_t>(item.size()), frame.length_bytes) << name(dtype);
      EXPECT_EQ(frame.data_offset_bytes % 64, 0);
      const TensorItem read = read_tensor_item(MemorySource(item));
      EXPECT_EQ(read.dtype, dtype);
      EXPECT_EQ(read.sizes, sizes);
      EXPECT_EQ(read.data_offset_bytes, frame.data_offset_bytes);
      EXPECT_EQ(read.data_bytes, frame.data_bytes);
      EXPECT_EQ(read.data_crc, crc32(data));
      EXPECT_FALSE(read.big_endian || read.conjugate || read.negative);
    }
  }
}

TEST(Item, EveryDamagedByteOfHeadAndTailIsRefusedOrReadAsTheSame) {
  const Sizes sizes = {2, 3};
  Bytes data(24, std::byte{5});
  const Bytes item = tensor_item(DType::float32, sizes, data);
  const TensorItem good = read_tensor_item(MemorySource(item));
  for (size_t at = 0; at < item.size(); ++at) {
    Bytes damaged = item;
    damaged[at] ^= std::byte{0x41};
    const auto read = capture([&] { return read_tensor_item(MemorySource(damaged)); });
    if (!read) {
      EXPECT_NE(read.fault.code, Code::internal) << at;
      continue;
    }
    // What is not refused is still inside, and says the same of itself; a damaged CRC in both places is found when data is read.
    EXPECT_EQ(read.value->sizes, good.sizes) << at;
    EXPECT_EQ(read.value->dtype, good.dtype) << at;
    EXPECT_EQ(read.value->data_bytes, good.data_bytes) << at;
  }
}

rc::Gen<Value> any_value(int depth) {
  const auto leaf = rc::gen::oneOf(rc::gen::just(Value()), rc::gen::map(rc::gen::arbitrary<bool>(), [](bool v) { return Value(v); }),
                                   rc::gen::map(rc::gen::arbitrary<int64_t>(), [](int64_t v) { return Value(v); }),
                                   rc::gen::map(rc::gen::arbitrary<double>(), [](double v) { return Value(v); }),
                                   rc::gen::map(rc::gen::string<std::string>(),
                                                [](std::string v) {
                                                  for (char& c : v) c = static_cast<char>(c & 0x7f);
                                                  return Value(std::move(v));
                                                }),
                                   rc::gen::map(rc::gen::arbitrary<std::vector<uint8_t>>(), [](const std::vector<uint8_t>& v) {
                                     const auto bytes = std::as_bytes(std::span(v));
                                     return Value::bytes({bytes.begin(), bytes.end()});
                                   }));
  if (depth == 0) return leaf;
  const auto inner = rc::gen::container<std::vector<Value>>(any_value(depth - 1));
  return rc::gen::oneOf(leaf, rc::gen::map(inner, [](std::vector<Value> v) { return Value::list(std::move(v)); }),
                        rc::gen::map(inner, [](std::vector<Value> v) { return Value::tuple(std::move(v)); }),
                        rc::gen::map(inner, [](std::vector<Value> v) {
                          Value::Mapping mapping;
                          for (size_t i = 0; i < v.size(); ++i) mapping.items.emplace_back(Value(static_cast<int64_t>(i)), std::move(v[i]));
                          mapping.ordered = v.size() % 2;
                          return Value(std::move(mapping));
                        }));
}

RC_GTEST_PROP(Item, AnyValueComesBackAsItWas, ()) {
  const Value value = *any_value(3);
  RC_ASSERT(read_object_item(MemorySource(write_object_item(value))) == value);
}

TEST(Item, TheRarerValuesComeBackToo) {
  const std::vector<Value> values = {Value::BigInt{"-123456789012345678901234567890"},
                                     Value::Complex{1.5, -0.0},
                                     Value::TorchDType{"bfloat16"},
                                     Value::TorchSize{{2, 0, 3}},
                                     Value::TorchDevice{"cuda:1"},
                                     Value::TorchDevice{"cpu"},
                                     Value::Sequence{{Value(1)}, Value::SequenceKind::set},
                                     Value::Sequence{{}, Value::SequenceKind::frozenset},
                                     Value::ByteString{{std::byte{200}}, Value::BytesKind::bytearray},
                                     Value::ByteString{{}, Value::BytesKind::bytes_io},
                                     Value::bytes({}),
                                     Value::Tensor{DType::int16, {2}, {std::byte{1}, std::byte{0}, std::byte{2}, std::byte{0}}},
                                     Value(std::numeric_limits<double>::quiet_NaN()),
                                     Value("\xed\xa0\x80")};
  for (const Value& value : values) EXPECT_EQ(read_object_item(MemorySource(write_object_item(value))), value) << to_string(value);
}

TEST(Item, WhatIsNotDecodedStaysOpaqueAndIsWrittenAgainUnchanged) {
  const Bytes device = write_object_item(Value::TorchDevice{"cpu"});
  // The same archive with another callee: a class that nobody here knows.
  std::string text(as_text(device));
  const size_t at = text.find("ctorch\ndevice\n");
  ASSERT_NE(at, std::string::npos);
  const auto outcome = capture([&] { return read_object_item(MemorySource(as_bytes(text.replace(at, 14, "cposix\nsystem\n")))); });
  ASSERT_FALSE(outcome) << "its CRC was not checked";
  EXPECT_THAT(outcome.fault.what, HasSubstr("CRC-32"));
  const Value::Opaque opaque{"posix system", {device.begin(), device.end()}};
  EXPECT_EQ(write_object_item(Value(opaque)), device);
}

}  // namespace
}  // namespace tessera::format
