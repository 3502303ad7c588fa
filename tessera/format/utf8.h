// tessera/format/utf8.h: what counts as text in a pickle.
#pragma once

#include <string_view>

namespace tessera::format {

// True for UTF-8 as Python's surrogatepass writes it: no overlong forms, nothing past U+10FFFF, surrogates allowed.
bool is_text(std::string_view text);

}  // namespace tessera::format
