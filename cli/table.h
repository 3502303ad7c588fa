// cli/table.h: rows in aligned columns, for people.
#pragma once

#include <string>
#include <vector>

namespace tessera::cli {

enum class Align { left, right };

class Table {
 public:
  struct Column {
    std::string title;
    Align align = Align::left;
  };
  explicit Table(std::vector<Column> columns) : columns_(std::move(columns)) {}
  // One cell a column. Cells may hold anything: they are made printable.
  void add(std::vector<std::string> cells);
  // A title line and the rows, each ending in a newline. Columns in which every cell is empty are left out.
  std::string text() const;

 private:
  std::vector<Column> columns_;
  std::vector<std::vector<std::string>> rows_;
};

}  // namespace tessera::cli
