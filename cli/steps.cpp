#include "cli/steps.h"

#include <fmt/format.h>

#include "cli/leftovers.h"
#include "cli/places.h"
#include "cli/table.h"
#include "cli/text.h"
#include "cli/value_json.h"
#include "tessera/checkpoint/catalog.h"
#include "tessera/checkpoint/verify.h"
#include "tessera/storage/local_storage.h"

namespace tessera::cli {
namespace {

struct Row {
  std::string name;
  bool pinned = false;
  VerifyReport report;
};

std::vector<Row> rows_of(const std::shared_ptr<const Storage>& storage, Depth depth) {
  const std::set<Step> pinned = pinned_steps(*storage);
  std::vector<Row> rows;
  for (const Step step : steps_of(*storage)) {
    Row row{step_name(step), pinned.contains(step), {}};
    const auto looked = capture([&] { row.report = verify(storage, row.name, {.depth = depth}); });
    if (!looked) row.report.damage.push_back({looked.fault});
    rows.push_back(std::move(row));
  }
  return rows;
}

std::string metrics_of(const VerifyReport& report) {
  std::string text;
  for (const auto& [name, value] : report.metrics) text += (text.empty() ? "" : " ") + name + "=" + float_repr(value);
  return text;
}

// Floats as text, since JSON has no NaN.
std::string metrics_json(const VerifyReport& report) {
  std::string json;
  for (const auto& [name, value] : report.metrics)
    json += (json.empty() ? "" : ", ") + json_string(name) + ": " + json_string(float_repr(value));
  return "{" + json + "}";
}

std::string state_of(const Row& row) { return row.report.damage.empty() ? "sound" : describe(row.report.damage.front().fault); }

std::string for_people(const std::string& root, const std::vector<Row>& rows, const std::vector<Leftover>& leftovers, bool full) {
  Table table({{"step"}, {"bytes", Align::right}, {"files", Align::right}, {"save"}, {"metrics"}, {"pinned"}, {"state"}});
  size_t sound = 0;
  for (const Row& row : rows) {
    sound += row.report.damage.empty();
    table.add({row.name, std::to_string(row.report.total_bytes), std::to_string(row.report.files), row.report.save_id,
               metrics_of(row.report), row.pinned ? "pinned" : "", state_of(row)});
  }
  const std::string depth = full ? "every byte looked at" : "names and sizes looked at";
  return (rows.empty() ? "" : table.text()) + leftovers_text(root, leftovers) +
         fmt::format("{} step{}, {} sound; {} leftover{}; {}\n", rows.size(), rows.size() == 1 ? "" : "s", sound, leftovers.size(),
                     leftovers.size() == 1 ? "" : "s", depth);
}

std::string as_json(const std::vector<Row>& rows, const std::vector<Leftover>& leftovers) {
  std::string lines;
  for (const Row& row : rows) {
    lines += fmt::format("{}\n  {}: {{\"bytes\": {}, \"files\": {}, \"save_id\": {}, \"metrics\": {}, \"pinned\": {}, {}}}",
                         lines.empty() ? "" : ",", json_string(row.name), row.report.total_bytes, row.report.files,
                         json_string(row.report.save_id), metrics_json(row.report), row.pinned,
                         row.report.damage.empty() ? "\"sound\": true" : "\"sound\": false, \"damage\": " + json_string(state_of(row)));
  }
  return fmt::format("{{\n \"steps\": {{{}\n }},\n \"leftovers\": {}\n}}\n", lines, leftovers_json(leftovers));
}

}  // namespace

Output steps(const StepsCommand& command) {
  const std::string path = plain_path(command.root);
  const auto storage = std::make_shared<const LocalStorage>(path);
  refuse_no_root(*storage, path);
  const std::vector<Row> rows = rows_of(storage, command.full ? Depth::every_byte : Depth::names_and_sizes);
  const std::vector<Leftover> leftovers = leftovers_of(*storage);
  Output output{command.json ? as_json(rows, leftovers) : for_people(path, rows, leftovers, command.full)};
  for (const Row& row : rows) {
    if (!row.report.damage.empty()) output.exit_code = exit_differs;
  }
  return output;
}

}  // namespace tessera::cli
