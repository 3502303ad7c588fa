#include "cli/value_json.h"

#include <gtest/gtest.h>

#include <limits>

namespace tessera::cli {
namespace {

std::vector<std::byte> some_bytes() { return {std::byte{0x00}, std::byte{0xff}, std::byte{0x10}}; }

TEST(ValueJson, FloatsReadAsPythonReprs) {
  EXPECT_EQ(float_repr(0.1), "0.1");
  EXPECT_EQ(float_repr(1), "1.0");
  EXPECT_EQ(float_repr(-0.0), "-0.0");
  EXPECT_EQ(float_repr(1e-4), "0.0001");
  EXPECT_EQ(float_repr(1e-5), "1e-05");
  EXPECT_EQ(float_repr(1.5e-8), "1.5e-08");
  EXPECT_EQ(float_repr(1e15), "1000000000000000.0");
  EXPECT_EQ(float_repr(1e16), "1e+16");
  EXPECT_EQ(float_repr(123456789.125), "123456789.125");
  EXPECT_EQ(float_repr(5e-324), "5e-324");
  EXPECT_EQ(float_repr(1.7976931348623157e308), "1.7976931348623157e+308");
  EXPECT_EQ(float_repr(-std::numeric_limits<double>::infinity()), "-inf");
  EXPECT_EQ(float_repr(std::numeric_limits<double>::quiet_NaN()), "nan");
}

TEST(ValueJson, FloatsCarryEveryBit) {
  EXPECT_EQ(float_hex(0.1), "0x1.999999999999ap-4");
  EXPECT_EQ(float_hex(1), "0x1.0000000000000p+0");
  EXPECT_EQ(float_hex(-2.5), "-0x1.4000000000000p+1");
  EXPECT_EQ(float_hex(-0.0), "-0x0.0p+0");
  EXPECT_EQ(float_hex(5e-324), "0x0.0000000000001p-1022");
  EXPECT_EQ(float_hex(1.7976931348623157e308), "0x1.fffffffffffffp+1023");
}

TEST(ValueJson, EveryTypeKeepsItsName) {
  EXPECT_EQ(value_json({}), R"({"t": "none"})");
  EXPECT_EQ(value_json(true), R"({"t": "bool", "v": true})");
  EXPECT_EQ(value_json(-5), R"({"t": "int", "v": "-5"})");
  EXPECT_EQ(value_json(Value::BigInt{"1180591620717411303424"}), R"({"t": "int", "v": "1180591620717411303424"})");
  EXPECT_EQ(value_json(0.1), R"({"t": "float", "v": "0.1", "hex": "0x1.999999999999ap-4"})");
  EXPECT_EQ(value_json("a\"b"), R"({"t": "str", "v": "a\"b"})");
  EXPECT_EQ(value_json(Value::bytes(some_bytes())), R"({"t": "bytes", "hex": "00ff10"})");
  EXPECT_EQ(value_json(Value::ByteString{some_bytes(), Value::BytesKind::bytes_io}), R"({"t": "BytesIO", "hex": "00ff10"})");
  EXPECT_EQ(value_json(Value::Complex{1, 2}), R"({"t": "complex", "re": "0x1.0000000000000p+0", "im": "0x1.0000000000000p+1"})");
  EXPECT_EQ(value_json(Value::TorchDType{"bfloat16"}), R"({"t": "dtype", "v": "bfloat16"})");
  EXPECT_EQ(value_json(Value::TorchSize{{1, 2}}), R"({"t": "size", "v": [1, 2]})");
  EXPECT_EQ(value_json(Value::TorchDevice{"cuda:0"}), R"({"t": "device", "v": "cuda:0"})");
  EXPECT_EQ(value_json(Value::Tensor{DType::uint8, {3}, some_bytes()}),
            R"({"t": "tensor", "dtype": "uint8", "shape": [3], "hex": "00ff10"})");
  EXPECT_EQ(value_json(Value::Opaque{"datetime datetime", {}}), R"({"t": "opaque", "global": "datetime datetime"})");
}

TEST(ValueJson, ContainersKeepOrderExceptSets) {
  EXPECT_EQ(value_json(Value::list({})), R"({"t": "list", "v": []})");
  EXPECT_EQ(value_json(Value::tuple({2, 1})), R"({"t": "tuple", "v": [{"t": "int", "v": "2"}, {"t": "int", "v": "1"}]})");
  const Value one_way = Value::Sequence{{3, 1, 2}, Value::SequenceKind::set};
  const Value other_way = Value::Sequence{{2, 3, 1}, Value::SequenceKind::set};
  EXPECT_EQ(value_json(one_way), value_json(other_way));
  EXPECT_EQ(value_json(Value::Mapping{{{"b", 1}, {"a", Value::None{}}}, true}),
            R"({"t": "OrderedDict", "v": [[{"t": "str", "v": "b"}, {"t": "int", "v": "1"}], [{"t": "str", "v": "a"}, {"t": "none"}]]})");
}

}  // namespace
}  // namespace tessera::cli
