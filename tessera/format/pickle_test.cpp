#include "tessera/format/pickle.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <limits>

#include "tessera/format/pickle_writer.h"
#include "tessera/format/python_long.h"

namespace tessera::format {
namespace {

using namespace std::string_literals;
using ::testing::HasSubstr;

Fault refused(const std::string& bytes, const PickleLimits& limits = {}) {
  const auto outcome = capture([&] { return Pickle(as_bytes(bytes), limits, "f").root().kind; });
  EXPECT_FALSE(outcome) << "accepted";
  return outcome.fault;
}
const std::string v2 = "\x80\x02";

TEST(Pickle, ReadsWhatPythonWrites) {
  // pickle.dumps({"a": (1, -2, 300, 70000, 1 << 40, 1.5, None, True)}, 4)
  const std::string bytes =
      "\x80\x04\x95\x2d\x00\x00\x00\x00\x00\x00\x00}\x94\x8c\x01"
      "a\x94(K\x01J\xfe\xff\xff\xffM\x2c\x01Jp\x11\x01\x00\x8a\x06\x00\x00\x00\x00\x00\x01G?\xf8\x00\x00\x00\x00\x00\x00N\x88t\x94s."s;
  const Pickle pickle(as_bytes(bytes));
  ASSERT_EQ(pickle.root().kind, Node::Kind::dict);
  const auto tuple = pickle.root().items()[1]->items();
  ASSERT_EQ(tuple.size(), 8u);
  EXPECT_EQ(tuple[1]->integer(), -2);
  EXPECT_EQ(tuple[4]->integer(), int64_t{1} << 40);
  EXPECT_EQ(tuple[5]->real(), 1.5);
  EXPECT_TRUE(tuple[7]->boolean());
}

TEST(Pickle, AcceptsOneNameTagAndNoOtherPop) {
  EXPECT_EQ(Pickle(as_bytes(v2 + "X\x03\x00\x00\x00tag0N."s)).marker(), "tag");
  EXPECT_EQ(refused(v2 + "N0N."s).code, Code::unsupported);
  EXPECT_EQ(refused(v2 + "X\x01\x00\x00\x00"
                         "a0X\x01\x00\x00\x00"
                         "b0N."s)
                .code,
            Code::unsupported);
}

TEST(Pickle, RefusesWhatBreaksTheRules) {
  EXPECT_THAT(refused("").what, HasSubstr("ends early"));
  EXPECT_THAT(refused(v2 + "N").what, HasSubstr("ends early"));
  EXPECT_THAT(refused(v2 + "N.N").what, HasSubstr("after the end"));
  EXPECT_THAT(refused(v2 + "NN.").what, HasSubstr("more or less than one"));
  EXPECT_THAT(refused(v2 + "(N.").what, HasSubstr("more or less than one"));
  EXPECT_THAT(refused(v2 + "e.").what, HasSubstr("no mark"));
  EXPECT_THAT(refused(v2 + "a.").what, HasSubstr("empty stack"));
  EXPECT_THAT(refused(v2 + "(Na.").what, HasSubstr("empty stack")) << "below a mark";
  EXPECT_THAT(refused(v2 + "h\x07.").what, HasSubstr("never set"));
  EXPECT_THAT(refused(v2 + "}(Nu.").what, HasSubstr("key without a value"));
  EXPECT_THAT(refused(v2 + "NNs.").what, HasSubstr("empty stack"));
  EXPECT_THAT(refused(v2 + "NN)Rb.").what, HasSubstr("no global"));
  EXPECT_THAT(refused(v2 + "X\xff\xff\xff\xffx.").what, HasSubstr("ends early"));
  EXPECT_THAT(refused(v2 + "X\x01\x00\x00\x00\xff."s).what, HasSubstr("UTF-8"));
  EXPECT_THAT(refused(v2 + "X\x02\x00\x00\x00\xc0\x80."s).what, HasSubstr("UTF-8")) << "overlong";
  EXPECT_THAT(refused(v2 + "cposix\nsystem").what, HasSubstr("ends early"));
  EXPECT_EQ(refused(v2 + "I1\n.").code, Code::unsupported);
  EXPECT_EQ(refused("\x80\x06N.").code, Code::unsupported);
}

TEST(Pickle, NamesTheByteOfTheOpcodeThatFailed) {
  const Fault fault = refused(v2 + "NNh\x07.");
  EXPECT_EQ(fault.offset_bytes, 4);
  EXPECT_EQ(fault.file, "f");
}

TEST(Pickle, RefusesAListInItselfAndDepthAndSharingBombs) {
  EXPECT_THAT(refused(v2 + "]q\x00h\x00"
                           "a."s)
                  .what,
              HasSubstr("contains itself"));
  std::string deep = v2;
  for (int i = 0; i < 200; ++i) deep += "]";
  for (int i = 0; i < 199; ++i) deep += "a";
  EXPECT_EQ(refused(deep + ".").code, Code::limit);
  std::string bomb = v2 + "]q\x00"s;
  for (int i = 0; i < 60; ++i) bomb += "h\x00h\x00\x86q\x00"s;  // each pair is made of the one before it, twice
  bomb = v2 + "(" + bomb.substr(2) + "t";
  EXPECT_EQ(refused(bomb + ".").code, Code::limit);
}

RC_GTEST_PROP(Pickle, IntegersOfAnySizeComeBack, (int64_t value)) {
  PickleWriter out;
  out.integer(value);
  RC_ASSERT(Pickle(out.finish()).root().integer() == value);
  const std::string decimal = std::to_string(value);
  RC_ASSERT(decimal_of_long(long_of_decimal(decimal)) == decimal);
}

TEST(Pickle, DecimalsBeyond64BitsComeBack) {
  for (const std::string decimal :
       {"9223372036854775808", "-9223372036854775809", "123456789012345678901234567890", "-1", "0", "255", "-256"}) {
    EXPECT_EQ(decimal_of_long(long_of_decimal(decimal)), decimal);
  }
  EXPECT_EQ(long_of_decimal("255").size(), 2u) << "as Python: a sign byte";
  EXPECT_EQ(long_of_decimal("-128").size(), 1u);
}

RC_GTEST_PROP(Pickle, AnyBytesAreReadOrRefusedAndNothingElse, (std::vector<uint8_t> noise)) {
  // Mostly opcodes, so that the machine gets somewhere.
  static const std::string opcodes = "]}()NtaesuKMq\x85\x86\x87\x88\x89\x94hRb.X";
  std::string bytes = v2;
  for (const uint8_t byte : noise) bytes += byte < 230 ? opcodes[byte % opcodes.size()] : static_cast<char>(byte);
  const auto outcome = capture([&] { Pickle pickle(as_bytes(bytes)); });
  RC_ASSERT(outcome || outcome.fault.code != Code::internal);
}

}  // namespace
}  // namespace tessera::format
