// tessera/format/json.h: JSON from strangers: as nlohmann's parser has it, and names twice in one object are refused.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

namespace tessera::format {

// Errors  Error(corrupt) with the byte, counted from `origin_bytes`; Error(limit) for values nested deeper than 16.
nlohmann::json parse_json(std::string_view text, const std::string& file, int64_t origin_bytes);

}  // namespace tessera::format
