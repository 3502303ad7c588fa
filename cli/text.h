// cli/text.h: text that came from a file, made safe to show. Keys may hold any character, NUL and lone surrogates included.
#pragma once

#include <string>
#include <string_view>

namespace tessera::cli {

// For a terminal: valid, printable UTF-8 as it is; control characters, lone surrogates and invalid bytes escaped, so that
// no file can move the cursor or set colours.
std::string printable(std::string_view text);
// A JSON string, quoted, in ASCII, as Python's json.dumps writes it: lone surrogates as \udXXX. Bytes that are not UTF-8
// become the lone surrogates of Python's "surrogateescape".
std::string json_string(std::string_view text);
// What a person sees as columns: the code points of printable text.
size_t width(std::string_view printable_text);
// At most `columns` code points of printable text, the last one "…" if some were cut.
std::string shortened(std::string_view printable_text, size_t columns);

}  // namespace tessera::cli
