#include "cli/table.h"

#include <algorithm>
#include <cassert>

#include "cli/text.h"

namespace tessera::cli {
namespace {

// Cells of one line, two spaces apart; no spaces at the end.
class Line {
 public:
  void add(const std::string& cell, size_t columns, Align align) {
    const std::string blank(columns - std::min(columns, width(cell)), ' ');
    if (!first_) pending_ += "  ";
    first_ = false;
    const std::string padded = align == Align::right ? blank + cell : cell;
    if (!cell.empty()) {
      text_ += pending_ + padded;
      pending_ = align == Align::right ? "" : blank;
    } else {
      pending_ += blank;
    }
  }
  std::string finish() const { return text_ + "\n"; }

 private:
  bool first_ = true;
  std::string text_;
  std::string pending_;  // blanks that only matter if something follows
};

}  // namespace

void Table::add(std::vector<std::string> cells) {
  assert(cells.size() == columns_.size());
  for (std::string& cell : cells) cell = printable(cell);
  rows_.push_back(std::move(cells));
}

std::string Table::text() const {
  std::vector<size_t> widths;
  for (size_t c = 0; c < columns_.size(); ++c) {
    size_t most = 0;
    for (const auto& row : rows_) most = std::max(most, width(row[c]));
    widths.push_back(most == 0 ? 0 : std::max(most, width(columns_[c].title)));
  }
  const auto line = [&](auto cell) {
    Line one;
    for (size_t c = 0; c < columns_.size(); ++c) {
      if (widths[c] > 0) one.add(cell(c), widths[c], columns_[c].align);
    }
    return one.finish();
  };
  std::string all = line([&](size_t c) { return columns_[c].title; });
  for (const auto& row : rows_) all += line([&](size_t c) { return row[c]; });
  return all;
}

}  // namespace tessera::cli
