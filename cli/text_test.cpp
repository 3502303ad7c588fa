#include "cli/text.h"

#include <gtest/gtest.h>

namespace tessera::cli {
namespace {

using namespace std::string_literals;

TEST(Text, PlainTextIsShownAsItIs) {
  EXPECT_EQ(printable("model.layer.0.w"), "model.layer.0.w");
  EXPECT_EQ(printable("h\u00e9llo \u4e16 \U0001f600"), "h\u00e9llo \u4e16 \U0001f600");
}

TEST(Text, NothingFromAFileCanDriveTheTerminal) {
  EXPECT_EQ(printable("\x1b[31mred\x07"), "\\x1b[31mred\\x07");
  EXPECT_EQ(printable("a\0b"s), "a\\x00b");
  EXPECT_EQ(printable("two\nlines"), "two\\nlines");
  EXPECT_EQ(printable("\u009b"), "\\x9b");          // C1: the one-byte CSI
  EXPECT_EQ(printable("\u202e"
                      "abc"),
            "\\u202eabc");  // right-to-left override
  EXPECT_EQ(printable("\xff\xc3"), "\\xff\\xc3");
  EXPECT_EQ(printable("\xed\xa0\x80"), "\\ud800");
}

TEST(Text, OverlongAndOutOfRangeSequencesAreBytes) {
  EXPECT_EQ(printable("\xc0\xaf"), "\\xc0\\xaf");
  EXPECT_EQ(printable("\xe0\x80\xaf"), "\\xe0\\x80\\xaf");
  EXPECT_EQ(printable("\xf4\x90\x80\x80"), "\\xf4\\x90\\x80\\x80");
}

TEST(Text, JsonIsWhatPythonWrites) {
  EXPECT_EQ(json_string("a\"b\\c\n"), R"("a\"b\\c\n")");
  EXPECT_EQ(json_string("h\u00e9\u4e16"), R"("h\u00e9\u4e16")");
  EXPECT_EQ(json_string("\U0001f600"), R"("\ud83d\ude00")");
  EXPECT_EQ(json_string("x\0y"s), R"("x\u0000y")");
  EXPECT_EQ(json_string("\xed\xb3\xbf"), R"("\udcff")");  // a lone surrogate of the pickle
  EXPECT_EQ(json_string("\xff"), R"("\udcff")");          // a byte that is no UTF-8
}

TEST(Text, WidthCountsCharactersAndShorteningKeepsThemWhole) {
  EXPECT_EQ(width("h\u00e9llo"), 5u);
  EXPECT_EQ(shortened("h\u00e9llo", 5), "h\u00e9llo");
  EXPECT_EQ(shortened("h\u00e9llo", 4), "h\u00e9l…");
}

}  // namespace
}  // namespace tessera::cli
