#include "cli/leftovers.h"

#include <fmt/format.h>

#include "cli/table.h"
#include "cli/text.h"
#include "tessera/format/dcp.h"
#include "tessera/storage/names.h"

namespace tessera::cli {
namespace {

int64_t seconds_since(const Leftover& leftover) {
  return std::chrono::duration_cast<std::chrono::seconds>(std::chrono::system_clock::now() - leftover.modified).count();
}
bool tells(const Leftover& leftover) { return leftover.modified != std::chrono::system_clock::time_point{}; }

std::string kind_of(const Leftover& leftover) {
  if (is_trash_name(split(leftover.directory).name)) return "trash";
  return leftover.moved_up.empty() ? "staging" : fmt::format("staging, and {} files beside it", leftover.moved_up.size());
}

}  // namespace

std::string age_of(const Leftover& leftover) {
  if (!tells(leftover)) return "";
  const int64_t seconds = std::max<int64_t>(0, seconds_since(leftover));
  if (seconds < 120) return fmt::format("{} s", seconds);
  if (seconds < 7200) return fmt::format("{} min", seconds / 60);
  return seconds < 172800 ? fmt::format("{} h", seconds / 3600) : fmt::format("{} days", seconds / 86400);
}

std::string leftovers_text(const std::string& root, const std::vector<Leftover>& leftovers) {
  if (leftovers.empty()) return "";
  Table table({{"leftover"}, {"bytes", Align::right}, {"unchanged for"}, {"kind"}});
  for (const Leftover& one : leftovers) table.add({root + "/" + one.directory, std::to_string(one.bytes), age_of(one), kind_of(one)});
  return table.text();
}

std::string leftovers_json(const std::vector<Leftover>& leftovers) {
  std::string list;
  for (const Leftover& one : leftovers) {
    std::string files;
    for (const Path& file : one.moved_up) files += (files.empty() ? "" : ", ") + json_string(file);
    list +=
        fmt::format("{}\n  {{\"directory\": {}, \"bytes\": {}, \"files\": [{}]{}}}", list.empty() ? "" : ",", json_string(one.directory),
                    one.bytes, files, tells(one) ? fmt::format(", \"age_seconds\": {}", seconds_since(one)) : "");
  }
  return "[" + list + (list.empty() ? "]" : "\n ]");
}

void refuse_no_root(const Storage& storage, const std::string& path) {
  if (!storage.exists("")) throw Error({.code = Code::not_found, .what = "no such directory", .file = path});
  if (!storage.exists(format::metadata_file)) return;
  throw Error({.code = Code::invalid_argument,
               .what = path + " is one checkpoint, not a root of steps",
               .hint = "name the directory that it lies in"});
}

}  // namespace tessera::cli
