// Objects of item.h.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <cmath>
#include <functional>
#include <limits>

#include "tessera/base/digest.h"
#include "tessera/format/archive.h"
#include "tessera/format/item.h"

namespace tessera::format {
namespace {

using namespace std::string_literals;
using testing::HasSubstr;

Value read(const Bytes& item) { return read_object_item(MemorySource(item, "file")); }
Value round_trip(const Value& value) { return read(write_object_item(value)); }

Fault fault_of(const Bytes& item) {
  try {
    read(item);
  } catch (const Error& error) {
    EXPECT_EQ(error.fault().file, "file");
    return error.fault();
  }
  ADD_FAILURE() << "was read";
  return {};
}

// The archive of an object with this data.pkl and these storages.
Bytes archive_of(const std::string& pickle, const std::vector<std::string>& storages = {}) {
  ZipLayout layout;
  ByteWriter out;
  const auto add = [&](const std::string& name, std::string_view content) {
    layout.add(name, static_cast<int64_t>(content.size()), crc32(as_bytes(content)), false);
    out.put_raw(layout.header());
    out.put_raw(as_bytes(content));
  };
  add("archive/data.pkl", pickle);
  add("archive/version", "3\n");
  for (size_t i = 0; i < storages.size(); ++i) add("archive/data/" + std::to_string(i), storages[i]);
  out.put_raw(layout.directory());
  return out.take();
}

std::vector<std::byte> raw(std::string_view text) { return {as_bytes(text).begin(), as_bytes(text).end()}; }

// A value of any type, up to `depth` levels.
// As many values that differ from each other and have a hash in Python.
std::vector<Value> some_keys(size_t count) {
  std::vector<Value> keys;
  for (size_t i = 0; i < count; ++i) {
    const auto number = static_cast<int64_t>(i);
    keys.push_back(i % 3 == 0 ? Value(number) : i % 3 == 1 ? Value("key " + std::to_string(i)) : Value::tuple({Value(), Value(number)}));
  }
  return keys;
}

rc::Gen<Value> any_value(int depth) {
  using rc::gen::map;
  const auto bytes = [](Value::BytesKind kind) {
    return map(rc::gen::arbitrary<std::vector<uint8_t>>(), [kind](const std::vector<uint8_t>& data) {
      const auto span = std::as_bytes(std::span(data));
      return Value(Value::ByteString{{span.begin(), span.end()}, kind});
    });
  };
  auto leaf = rc::gen::oneOf(
      rc::gen::just(Value()), map(rc::gen::arbitrary<bool>(), [](bool v) { return Value(v); }),
      map(rc::gen::arbitrary<int64_t>(), [](int64_t v) { return Value(v); }),
      map(rc::gen::arbitrary<uint64_t>(), [](uint64_t bits) { return Value(std::bit_cast<double>(bits)); }),
      map(rc::gen::string<std::string>(),
          [](std::string v) {
            for (char& c : v) c &= 0x7f;
            return Value(std::move(v));
          }),
      bytes(Value::BytesKind::bytes), bytes(Value::BytesKind::bytearray), bytes(Value::BytesKind::bytes_io),
      rc::gen::elementOf(std::vector<Value>{Value::BigInt{"99999999999999999999999"}, Value::BigInt{"-9223372036854775809"},
                                            Value::TorchDType{"bfloat16"}, Value::TorchDevice{"cuda:3"}, Value::Complex{1.5, -0.0},
                                            Value::TorchSize{{2, 0, int64_t{1} << 40}}, Value::Tensor{DType::int16, {1, 2}, raw("abcd")}}));
  if (depth == 0) return leaf;
  const auto items = [depth] { return rc::gen::resize(4, rc::gen::container<std::vector<Value>>(any_value(depth - 1))); };
  auto sequence = map(rc::gen::pair(items(), rc::gen::elementOf(std::vector{Value::SequenceKind::list, Value::SequenceKind::tuple,
                                                                            Value::SequenceKind::set, Value::SequenceKind::frozenset})),
                      [](std::pair<std::vector<Value>, Value::SequenceKind> v) {
                        const bool set = v.second == Value::SequenceKind::set || v.second == Value::SequenceKind::frozenset;
                        if (set) v.first = some_keys(v.first.size());
                        return Value(Value::Sequence{std::move(v.first), v.second});
                      });
  auto mapping = map(rc::gen::pair(items(), rc::gen::arbitrary<bool>()), [](const std::pair<std::vector<Value>, bool>& v) {
    Value::Mapping out{{}, v.second};
    const std::vector<Value> keys = some_keys(v.first.size());
    for (size_t i = 0; i < keys.size(); ++i) out.items.emplace_back(keys[i], v.first[i]);
    return Value(std::move(out));
  });
  return rc::gen::oneOf(std::move(leaf), std::move(sequence), std::move(mapping));
}

RC_GTEST_PROP(Object, EveryValueComesBack, ()) {
  const Value value = *any_value(3);
  RC_ASSERT(round_trip(value) == value);
}

TEST(Object, WhatPythonCouldNotKeepApartIsRefusedOrStaysOpaque) {
  const auto refused = [](Value value) { return capture([&] { write_object_item(value); }).fault.code; };
  const auto dict = [](Value a, Value b) { return Value(Value::Mapping{{{std::move(a), Value()}, {std::move(b), Value()}}, false}); };
  EXPECT_EQ(refused(dict(Value("a"), Value("a"))), Code::invalid_argument);
  EXPECT_EQ(refused(dict(Value(1), Value(true))), Code::invalid_argument) << "1 == True";
  EXPECT_EQ(refused(dict(Value(0.0), Value(-0.0))), Code::invalid_argument);
  EXPECT_EQ(refused(dict(Value::list({}), Value(1))), Code::invalid_argument) << "a list has no hash";
  EXPECT_EQ(refused(Value(Value::Sequence{{Value(1), Value(1.0)}, Value::SequenceKind::set})), Code::invalid_argument);
  EXPECT_EQ(round_trip(dict(Value(1), Value("1"))), dict(Value(1), Value("1")));
  EXPECT_EQ(round_trip(dict(Value(1.5), Value(2))), dict(Value(1.5), Value(2)));
}

TEST(Object, EdgesOfNumbersComeBack) {
  for (const int64_t v :
       {int64_t{0}, int64_t{-1}, int64_t{255}, int64_t{256}, int64_t{65535}, int64_t{65536}, int64_t{0x7fffffff}, int64_t{0x80000000},
        int64_t{-0x80000000}, int64_t{-0x80000001}, std::numeric_limits<int64_t>::max(), std::numeric_limits<int64_t>::min()}) {
    EXPECT_EQ(round_trip(Value(v)), Value(v)) << v;
  }
  for (const double v : {0.0, -0.0, 1e-320, 1e308, std::numeric_limits<double>::infinity(), std::nan("7")})
    EXPECT_EQ(round_trip(Value(v)), Value(v)) << v;
}

TEST(Object, StringsKeepEveryCharacter) {
  for (const std::string& v : {""s, "a\0b"s, "caf\xc3\xa9"s, "\xed\xa0\x80"s, "\xf0\x9f\x98\x80"s, std::string(100'000, 'x')}) {
    EXPECT_EQ(round_trip(Value(v)), Value(v));
  }
  EXPECT_THROW(write_object_item(Value("\xff"s)), Error) << "Python could not read it";
}

TEST(Object, BytesAreWrittenAsPythonWritesThemInProtocol2) {
  const Bytes item =
      write_object_item(Value::bytes(raw("\xff"
                                         "a")));
  EXPECT_THAT(std::string(as_text(item)), HasSubstr("c_codecs\nencode\n"));
  EXPECT_THAT(std::string(as_text(item)), HasSubstr("\xc3\xbf"
                                                    "a"));
}

TEST(Object, TensorsInsideMayHaveAnyStrides) {
  // A 2x2 int16 tensor, transposed, that starts one element into its storage.
  const std::string pickle =
      "\x80\x02"
      "ctorch._utils\n_rebuild_tensor_v2\n((X\x07\x00\x00\x00storagectorch\nShortStorage\nX\x01\x00\x00\x00"
      "0X\x03\x00\x00\x00"
      "cpuK\x05tQ"
      "K\x01K\x02K\x02\x86K\x01K\x02\x86\x89"
      "ccollections\nOrderedDict\n)RtR."s;
  EXPECT_EQ(read(archive_of(pickle, {"..aabbccdd"})), Value(Value::Tensor{DType::int16, {2, 2}, raw("aaccbbdd")}));
}

TEST(Object, ManyTensorsOfOneStorageStayOpaqueRatherThanBecomeMany) {
  // 2000 times the same 1 KiB tensor: 2 MB of values in 8 KB.
  std::string pickle =
      "\x80\x02(ctorch._utils\n_rebuild_tensor_v2\n((X\x07\x00\x00\x00storagectorch\nByteStorage\nX\x01\x00\x00\x00"
      "0X\x03\x00\x00\x00"
      "cpuM\x00\x04tQ"
      "K\x00M\x00\x04\x85K\x01\x85\x89"
      "ccollections\nOrderedDict\n)RtRq\x00"s;
  for (int i = 0; i < 2000; ++i) pickle += "h\x00"s;
  const Bytes item = archive_of(pickle + "t.", {std::string(1024, 'x')});
  const Value value = read(item);
  ASSERT_TRUE(value.as<Value::Opaque>());
  EXPECT_EQ(write_object_item(value), item);
}

TEST(Object, WhatNamesAnotherClassIsOpaqueAndIsWrittenUnchanged) {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"cmy.module\nConfig\n)\x81}X\x01\x00\x00\x00kK\x01sb."s, "my.module Config"},
      {"cnumpy._core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85"
       "cnumpy\ndtype\n)R\x87R(K\x01K\x02\x85tb."s,
       "numpy._core.multiarray _reconstruct"},
      {"ccollections\ndeque\n)R(K\x01K\x02"
       "e."s,
       "collections deque"},
      {"ccollections\ndefaultdict\nc__builtin__\nint\n\x85RK\x01K\x02s."s, "collections defaultdict"},
      {"ccollections\nOrderedDict\n)R}X\x09\x00\x00\x00_metadataNsb."s, "collections OrderedDict"},
      {"c__builtin__\ngetattr\nNN\x86R)R."s, "__builtin__ getattr"},
      {"cmy\nNode\n)\x81q\x01}X\x02\x00\x00\x00meh\x01sb."s, "my Node"},
      {"cos\nsystem\nX\x04\x00\x00\x00true\x85R."s, "os system"},
      {"ctorch\nSize\nN\x85R."s, "torch Size"},
      {"ctorch\nqint8\n."s, "torch qint8"},
      {"]cmy\nthing\n)Ra."s, "my thing"},
      {"c_io\nBytesIO\n)\x81(c__builtin__\nbytes\n)RK\x05Ntb."s, "_io BytesIO"},
  };
  for (const auto& [pickle, global] : cases) {
    SCOPED_TRACE(global);
    const Bytes item = archive_of("\x80\x02" + pickle);
    const Value value = read(item);
    ASSERT_TRUE(value.as<Value::Opaque>()) << to_string(value);
    EXPECT_EQ(value.as<Value::Opaque>()->global, global);
    EXPECT_EQ(write_object_item(value), item);
    EXPECT_EQ(round_trip(value), value);
  }
}

TEST(Object, AnOpaqueValueInsideAnotherCannotBeWritten) {
  const Value opaque = Value::Opaque{"my.module Config", raw("archive")};
  EXPECT_THROW(write_object_item(Value::list({opaque})), Error);
}

TEST(Object, AFlippedBitChangesNoValueUnseen) {
  const Value value = Value::list({Value("text"), Value(Value::Tensor{DType::uint8, {4}, raw("data")})});
  const Bytes item = write_object_item(value);
  int refused = 0;
  for (size_t i = 0; i < item.size(); ++i) {
    Bytes changed = item;
    changed[i] ^= std::byte{0x10};
    try {
      EXPECT_EQ(read(changed), value) << "at byte " << i;  // a time or a padding, which say nothing
    } catch (const Error&) {
      ++refused;
    }
  }
  EXPECT_GT(refused, static_cast<int>(item.size()) / 2);
}

TEST(Object, TheStoragesOfAnOpaqueObjectAreCheckedToo) {
  Bytes damaged = archive_of(
      "\x80\x02"
      "cmy\nclass\n)R.",
      {"storage"});
  damaged[as_text(damaged).find("storage")] ^= std::byte{1};
  EXPECT_THAT(fault_of(damaged).what, HasSubstr("CRC-32 of 'archive/data/0'"));
}

TEST(Object, WhatCanBeWrittenCanBeRead) {
  const auto nest = [](int levels, Value value, const auto& wrap) {
    for (int i = 0; i < levels; ++i) value = wrap(std::move(value));
    return value;
  };
  const std::vector<std::function<Value(Value)>> wraps = {
      [](Value v) { return Value::list({std::move(v)}); },
      [](Value v) { return Value::tuple({std::move(v)}); },
      [](Value v) { return Value(Value::Sequence{{std::move(v)}, Value::SequenceKind::frozenset}); },
      [](Value v) { return Value(Value::Mapping{{{Value("k"), std::move(v)}}, true}); },
      [](Value v) { return Value(Value::Mapping{{{Value("k"), std::move(v)}}, false}); },
  };
  const std::vector<Value> leaves = {Value(1), Value(Value::Tensor{DType::uint8, {1}, raw("x")}),
                                     Value(Value::ByteString{raw("x"), Value::BytesKind::bytes_io})};
  for (const auto& wrap : wraps) {
    for (const Value& leaf : leaves) {
      bool refused = false;
      for (int levels = 25; levels < 110; ++levels) {
        const Value value = nest(levels, leaf, wrap);
        Bytes item;
        try {
          item = write_object_item(value);
        } catch (const Error& error) {
          EXPECT_TRUE(error.code() == Code::limit || error.code() == Code::invalid_argument);  // a set of what has no hash
          refused = true;
          continue;
        }
        EXPECT_FALSE(refused) << "a deeper value passed";
        EXPECT_EQ(read(item), value) << levels;
      }
      EXPECT_TRUE(refused);
    }
  }
}

TEST(Object, RefusesToWriteWhatIsNoValue) {
  EXPECT_THROW(write_object_item(Value::TorchDevice{"cuda:x"}), Error);
  EXPECT_THROW(write_object_item(Value::TorchDevice{"cuda:99999999999999999999"}), Error);
  EXPECT_THROW(write_object_item(Value::TorchDType{"float33"}), Error);
  EXPECT_THROW(write_object_item(Value::BigInt{"five"}), Error);
  EXPECT_THROW(write_object_item(Value(Value::Tensor{DType::float32, {2}, raw("four")})), Error);
  EXPECT_THROW(write_object_item(Value(Value::Tensor{DType::float32, {-1}, {}})), Error);
}

TEST(Object, RefusesAPickleThatIsNone) {
  EXPECT_EQ(fault_of(archive_of("")).code, Code::corrupt);
  EXPECT_EQ(fault_of(archive_of("\x80\x02]q\x00h\x00"
                                "a."s))
                .code,
            Code::corrupt);
  EXPECT_EQ(fault_of(archive_of("\x80\x02I1\n.")).code, Code::unsupported);
}

}  // namespace
}  // namespace tessera::format
