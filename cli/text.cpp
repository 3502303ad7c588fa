#include "cli/text.h"

#include <fmt/format.h>

#include <cstdint>

namespace tessera::cli {
namespace {

struct Piece {
  char32_t code_point = 0;
  size_t bytes = 1;
  bool valid = false;  // false: one byte that belongs to no character
};

bool continues(std::string_view text, size_t at) { return at < text.size() && (static_cast<unsigned char>(text[at]) & 0xc0) == 0x80; }

// The character at the start of `text`. Surrogates in three bytes count as characters: Python's pickles carry them.
Piece first_piece(std::string_view text) {
  const auto lead = static_cast<unsigned char>(text[0]);
  const Piece invalid{lead, 1, false};
  if (lead < 0x80) return {lead, 1, true};
  const size_t bytes = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : 2;
  if (lead < 0xc2 || lead > 0xf4) return invalid;
  char32_t code_point = lead & (0x7f >> bytes);
  for (size_t i = 1; i < bytes; ++i) {
    if (!continues(text, i)) return invalid;
    code_point = (code_point << 6) | (static_cast<unsigned char>(text[i]) & 0x3f);
  }
  const char32_t least = bytes == 4 ? 0x10000 : bytes == 3 ? 0x800 : 0x80;
  if (code_point < least || code_point > 0x10ffff) return invalid;
  return {code_point, bytes, true};
}

template <class Take>
void for_each_piece(std::string_view text, Take take) {
  while (!text.empty()) {
    const Piece piece = first_piece(text);
    take(piece, text.substr(0, piece.bytes));
    text.remove_prefix(piece.bytes);
  }
}

bool is_surrogate(char32_t c) { return c >= 0xd800 && c <= 0xdfff; }
// C0, DEL and C1 controls, and the marks that reorder or hide what stands around them.
bool is_control(char32_t c) {
  return c < 0x20 || (c >= 0x7f && c < 0xa0) || (c >= 0x200b && c <= 0x200f) || (c >= 0x2028 && c <= 0x202e) ||
         (c >= 0x2066 && c <= 0x2069) || c == 0xfeff;
}

}  // namespace

std::string printable(std::string_view text) {
  std::string safe;
  for_each_piece(text, [&](const Piece& piece, std::string_view bytes) {
    const auto c = static_cast<uint32_t>(piece.code_point);
    if (!piece.valid) safe += fmt::format("\\x{:02x}", c);
    else if (c == '\n') safe += "\\n";
    else if (is_surrogate(c) || (is_control(c) && c > 0xff)) safe += fmt::format("\\u{:04x}", c);
    else if (is_control(c)) safe += fmt::format("\\x{:02x}", c);
    else safe += bytes;
  });
  return safe;
}

std::string json_string(std::string_view text) {
  std::string json = "\"";
  for_each_piece(text, [&](const Piece& piece, std::string_view bytes) {
    const auto c = static_cast<uint32_t>(piece.code_point);
    if (!piece.valid) json += fmt::format("\\udc{:02x}", c);
    else if (c == '"' || c == '\\') json += fmt::format("\\{}", static_cast<char>(c));
    else if (c == '\n') json += "\\n";
    else if (c >= 0x10000) json += fmt::format("\\u{:04x}\\u{:04x}", 0xd800 + ((c - 0x10000) >> 10), 0xdc00 + ((c - 0x10000) & 0x3ff));
    else if (c < 0x20 || c >= 0x7f) json += fmt::format("\\u{:04x}", c);
    else json += bytes;
  });
  return json + "\"";
}

size_t width(std::string_view printable_text) {
  size_t columns = 0;
  for_each_piece(printable_text, [&](const Piece&, std::string_view) { ++columns; });
  return columns;
}

std::string shortened(std::string_view printable_text, size_t columns) {
  if (width(printable_text) <= columns) return std::string(printable_text);
  std::string kept;
  size_t taken = 1;  // the mark
  for_each_piece(printable_text, [&](const Piece&, std::string_view bytes) {
    if (taken++ < columns) kept += bytes;
  });
  return kept + "…";
}

}  // namespace tessera::cli
