#include "tessera/format/json.h"

#include <set>
#include <vector>

#include "tessera/base/error.h"

namespace tessera::format {
namespace {

constexpr int deepest = 16;

}  // namespace

nlohmann::json parse_json(std::string_view text, const std::string& file, int64_t origin_bytes) {
  using json = nlohmann::json;
  const auto bad = [&](std::string what, int64_t at = 0, Code code = Code::corrupt) {
    return Error({.code = code, .what = std::move(what), .file = file, .offset_bytes = origin_bytes + at});
  };
  // The parser takes a NUL for the end and would not look at what follows.
  if (const size_t nul = text.find('\0'); nul != std::string_view::npos) throw bad("not JSON", static_cast<int64_t>(nul));
  std::vector<std::set<std::string>> names;  // of the objects that are open
  const auto check = [&](int depth, json::parse_event_t event, json& parsed) {
    if (depth > deepest) throw bad("JSON nested too deeply", 0, Code::limit);
    if (event == json::parse_event_t::object_start) names.emplace_back();
    if (event == json::parse_event_t::object_end) names.pop_back();
    if (event == json::parse_event_t::key && !names.back().insert(parsed.get<std::string>()).second) {
      throw bad("the name '" + parsed.get<std::string>() + "' twice in one JSON object");
    }
    return true;
  };
  try {
    return json::parse(text, check);
  } catch (const json::exception& failure) {
    const auto* error = dynamic_cast<const json::parse_error*>(&failure);
    throw bad("not JSON", error && error->byte > 0 ? static_cast<int64_t>(error->byte) - 1 : 0);
  }
}

}  // namespace tessera::format
