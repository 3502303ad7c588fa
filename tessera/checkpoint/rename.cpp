#include "tessera/checkpoint/rename.h"

#include <mutex>
#include <regex>

namespace tessera {
namespace {

constexpr size_t longest_key = 4096;

class RenamedItems final : public Items {
 public:
  RenamedItems(std::shared_ptr<const Items> items, std::map<std::string, std::string> original)
      : items_(std::move(items)), original_(std::move(original)) {}
  OpenItem tensor(const std::string& key, const TensorEntry& entry, const Chunk& chunk) const override {
    return items_->tensor(original_.at(key), entry, chunk);
  }
  Value object(const std::string& key, const ObjectEntry& entry) const override { return items_->object(original_.at(key), entry); }

 private:
  const std::shared_ptr<const Items> items_;
  const std::map<std::string, std::string> original_;  // by new key
};

std::regex compiled(const Rename& rule) {
  try {
    return std::regex(rule.pattern, std::regex::ECMAScript | std::regex::optimize);
  } catch (const std::regex_error& error) {
    throw Error({.code = Code::invalid_argument, .what = "'" + rule.pattern + "' is no regular expression: " + error.what()});
  }
}

}  // namespace

void rename_keys(Opened& opened, const std::vector<Rename>& rules) {
  if (rules.empty()) return;
  // One at a time: libstdc++'s regular expressions fill a table of the locale's characters without a lock.
  static std::mutex one_at_a_time;
  const std::lock_guard lock(one_at_a_time);
  std::vector<std::pair<std::regex, std::string>> patterns;
  for (const Rename& rule : rules) patterns.emplace_back(compiled(rule), rule.replacement);
  std::map<std::string, std::string> original;
  Manifest renamed;
  renamed.writer_version = opened.manifest.writer_version;
  renamed.save_id = opened.manifest.save_id;
  for (auto& [key, entry] : opened.manifest.entries) {
    if (key.size() > longest_key)
      throw Error({.code = Code::limit, .what = "a key of " + std::to_string(key.size()) + " bytes cannot be renamed"});
    std::string name = key;
    for (const auto& [pattern, replacement] : patterns) name = std::regex_replace(name, pattern, replacement);
    const auto [place, fresh] = original.emplace(name, key);
    if (!fresh)
      throw Error({.code = Code::invalid_argument, .what = "'" + key + "' and '" + place->second + "' would both become '" + name + "'"});
    if (name != key) entry.path = {name};
    renamed.entries.emplace(name, std::move(entry));
  }
  opened.manifest = std::move(renamed);
  opened.items = std::make_shared<RenamedItems>(std::move(opened.items), std::move(original));
}

}  // namespace tessera
