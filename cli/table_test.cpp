#include "cli/table.h"

#include <gtest/gtest.h>

namespace tessera::cli {
namespace {

TEST(Table, AlignsColumnsAndEndsLinesClean) {
  Table table({{"key"}, {"bytes", Align::right}, {"value"}});
  table.add({"a", "400", ""});
  table.add({"long.key", "7", "x"});
  EXPECT_EQ(table.text(),
            "key       bytes  value\n"
            "a           400\n"
            "long.key      7  x\n");
}

TEST(Table, LeavesOutColumnsWithoutContent) {
  Table table({{"key"}, {"value"}, {"bytes", Align::right}});
  table.add({"a", "", "1"});
  EXPECT_EQ(table.text(), "key  bytes\na        1\n");
}

TEST(Table, AnEmptyFirstCellKeepsItsPlace) {
  Table table({{"key"}, {"what"}});
  table.add({"k", "x"});
  table.add({"", "y"});
  EXPECT_EQ(table.text(), "key  what\nk    x\n     y\n");
}

TEST(Table, CellsFromFilesStayOnTheirLine) {
  Table table({{"key"}, {"dtype"}});
  table.add({"a\nb\x1b[2J", "int8"});
  table.add({"h\u00e9", "bool"});
  EXPECT_EQ(table.text(),
            "key          dtype\n"
            "a\\nb\\x1b[2J  int8\n"
            "h\u00e9           bool\n");
}

}  // namespace
}  // namespace tessera::cli
