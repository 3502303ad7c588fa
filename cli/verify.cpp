#include "cli/verify.h"

#include <fmt/format.h>

#include "cli/places.h"
#include "cli/table.h"
#include "cli/text.h"
#include "tessera/checkpoint/catalog.h"
#include "tessera/checkpoint/verify.h"

namespace tessera::cli {
namespace {

constexpr size_t key_columns = 48;  // of the keys that one damage touches

VerifyOptions options_of(const VerifyCommand& command) {
  return {.depth = command.quick ? Depth::names_and_sizes : Depth::every_byte, .threads = command.threads};
}

std::string joined(const std::vector<std::string>& words) {
  std::string all;
  for (const std::string& word : words) all += (all.empty() ? "" : ", ") + word;
  return all;
}

// One clause. What nothing vouches for, or nobody looked at, is not called sound.
std::string verdict(const VerifyReport& report) {
  if (report.damage.empty()) return report.unverified_bytes == 0 ? "sound" : "no damage found";
  return fmt::format("damaged in {} place{}", report.damage.size(), report.damage.size() == 1 ? "" : "s");
}

std::string save_of(const VerifyReport& report) { return report.save_id.empty() ? "" : ", save " + printable(report.save_id); }

std::string damage_table(const std::string& path, const std::vector<Damage>& all) {
  if (all.empty()) return "";
  Table table({{"file"}, {"offset", Align::right}, {"damage"}, {"keys"}});
  for (const Damage& damage : all) {
    Fault bare = damage.fault;  // what, and the system's word for it; the place has columns of its own
    bare.file.clear();
    bare.offset_bytes = -1;
    table.add({seen_from_outside(path, damage.fault.file), damage.fault.offset_bytes < 0 ? "" : std::to_string(damage.fault.offset_bytes),
               describe(bare), shortened(printable(joined(damage.keys)), key_columns)});
  }
  return table.text();
}

// "4170 bytes verified, 0 unverified, 0 damaged".
std::string amounts(const VerifyReport& report, bool quick) {
  if (quick) return fmt::format("{} in {} files, names and sizes only", human_bytes(report.total_bytes), report.files);
  return fmt::format("{} bytes verified, {} unverified, {} damaged", report.verified_bytes, report.unverified_bytes, report.damaged_bytes);
}

std::string for_people(const std::string& path, const VerifyReport& report, bool quick) {
  std::string text = damage_table(path, report.damage);
  if (!report.strangers.empty()) text += "not of the checkpoint: " + printable(joined(report.strangers)) + "\n";
  text += fmt::format("{}: {}; {}{}\n", printable(path), verdict(report), name(report.format), save_of(report));
  return text + amounts(report, quick) + "\n";
}

std::string damage_json(const std::string& path, const Damage& damage) {
  std::string keys;
  for (const std::string& key : damage.keys) keys += (keys.empty() ? "" : ", ") + json_string(key);
  return fmt::format(R"({{"file": {}, "offset": {}, "code": "{}", "what": {}, "keys": [{}]}})",
                     json_string(seen_from_outside(path, damage.fault.file)), damage.fault.offset_bytes, name(damage.fault.code),
                     json_string(damage.fault.what), keys);
}

std::string as_json(const std::string& path, const VerifyReport& report) {
  std::string damage;
  for (const Damage& one : report.damage) damage += (damage.empty() ? "" : ", ") + damage_json(path, one);
  std::string strangers;
  for (const std::string& one : report.strangers) strangers += (strangers.empty() ? "" : ", ") + json_string(one);
  return fmt::format(
      R"({{"sound": {}, "format": "{}", "save_id": {}, "sidecar": {}, "files": {}, "total_bytes": {}, "verified_bytes": {}, )"
      R"("unverified_bytes": {}, "damaged_bytes": {}, "damage": [{}], "strangers": [{}]}})",
      report.damage.empty(), name(report.format), json_string(report.save_id), report.has_sidecar, report.files, report.total_bytes,
      report.verified_bytes, report.unverified_bytes, report.damaged_bytes, damage, strangers);
}

Output verify_steps(const std::string& path, const Steps& steps, const VerifyCommand& command) {
  Output output;
  VerifyReport sum;
  std::string lines;
  std::string tables;
  for (const std::string& step : steps.names) {
    VerifyReport report;
    // What cannot be looked at is no sound step, and the others are looked at all the same.
    const auto looked = capture([&] { report = verify(steps.root, step, options_of(command)); });
    if (!looked) report.damage.push_back({looked.fault});
    if (!report.damage.empty()) output.exit_code = exit_differs;
    sum.files += report.files;
    sum.total_bytes += report.total_bytes;
    sum.verified_bytes += report.verified_bytes;
    sum.unverified_bytes += report.unverified_bytes;
    sum.damaged_bytes += report.damaged_bytes;
    const std::string at = path + "/" + step;
    if (command.json) {
      lines += fmt::format("{}\n  {}: {}", lines.empty() ? "" : ",", json_string(step), as_json(at, report));
    } else {
      lines += fmt::format("{}: {}; {}\n", step, verdict(report), amounts(report, command.quick));
      tables += damage_table(at, report.damage);
    }
  }
  output.text = command.json ? fmt::format("{{\n \"steps\": {{{}\n }}\n}}\n", lines)
                             : tables + lines + "in all: " + amounts(sum, command.quick) + "\n";
  return output;
}

}  // namespace

Output verify(const VerifyCommand& command) {
  const std::string path = plain_path(command.path);
  if (const auto steps = steps_at(path)) return verify_steps(path, *steps, command);
  auto looked = capture([&] { return tessera::verify(path, options_of(command)); });
  if (!looked) looked.fault.file = seen_from_outside(path, looked.fault.file);
  const VerifyReport report = std::move(looked).or_throw();
  const int code = report.damage.empty() ? exit_ok : exit_differs;
  return {command.json ? as_json(path, report) + "\n" : for_people(path, report, command.quick), code};
}

}  // namespace tessera::cli
