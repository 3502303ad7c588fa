#include "examples/names/names.h"

#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>

#include "tessera/base/error.h"

namespace {

struct Named {
  std::string name, kind;
};

std::filesystem::path unicore() {
  std::error_code none;
  for (const auto& entry : std::filesystem::directory_iterator("/usr/share/perl", none)) {
    if (std::filesystem::exists(entry.path() / "unicore/Name.pl", none)) return entry.path() / "unicore";
  }
  throw tessera::Error(
      {.code = tessera::Code::not_found, .what = "no table of Unicode", .file = "/usr/share/perl", .hint = "install perl"});
}

// Lines "41 5A Lu", or "20  Zs" for one, separated by tabs: the last code point of each range, and its kind, by the first.
std::map<long, std::pair<long, std::string>> read_kinds(const std::filesystem::path& file) {
  std::map<long, std::pair<long, std::string>> kinds;
  std::ifstream in(file);
  for (std::string line; std::getline(in, line);) {
    const size_t first = line.find('\t'), second = line.find('\t', first + 1);
    if (second == std::string::npos) continue;
    const long begin = std::stol(line, nullptr, 16);
    const std::string end = line.substr(first + 1, second - first - 1);
    kinds[begin] = {end.empty() ? begin : std::stol(end, nullptr, 16), line.substr(second + 1)};
  }
  return kinds;
}

// A line with a code point, then one with its name. Sequences of code points are left out.
std::vector<Named> read_all() {
  const auto kinds = read_kinds(unicore() / "To/Gc.pl");
  std::vector<Named> all;
  std::ifstream in(unicore() / "Name.pl");
  for (std::string line, name; std::getline(in, line);) {
    if (line.size() < 5 || line.find_first_not_of("0123456789ABCDEF") != std::string::npos || !std::getline(in, name)) continue;
    const long code = std::stol(line, nullptr, 16);
    const auto after = kinds.upper_bound(code);
    if (after == kinds.begin() || std::prev(after)->second.first < code) continue;
    all.push_back({name, std::prev(after)->second.second});
  }
  return all;
}

int64_t letter(char c) {
  return c >= 'A' && c <= 'Z' ? 1 + c - 'A' : c >= '0' && c <= '9' ? 27 + c - '0' : c == ' ' ? 37 : c == '-' ? 38 : 39;
}

Names as_tensors(const std::vector<Named>& named, const std::vector<std::string>& kind_names) {
  const at::Tensor letters = at::zeros({static_cast<int64_t>(named.size()), NameData::width}, at::kLong);
  std::vector<int64_t> kinds;
  auto* row = letters.mutable_data_ptr<int64_t>();
  for (const auto& [name, kind] : named) {
    std::ranges::transform(name.substr(0, NameData::width), row, letter);
    row += NameData::width;
    kinds.push_back(std::ranges::lower_bound(kind_names, kind) - kind_names.begin());
  }
  return {letters, at::tensor(kinds)};
}

}  // namespace

NameData read_names(int64_t most) {
  const std::vector<Named> all = read_all();
  const auto size = static_cast<int64_t>(all.size());
  if (most == 0 || most > size) most = size;
  std::vector<Named> train, test;
  for (int64_t i = 0; i < most; ++i) (i % 10 == 9 ? test : train).push_back(all[static_cast<size_t>(i * size / most)]);
  NameData data;
  for (const Named& each : all) data.kind_names.push_back(each.kind);
  std::ranges::sort(data.kind_names);
  data.kind_names.erase(std::ranges::unique(data.kind_names).begin(), data.kind_names.end());
  data.train = as_tensors(train, data.kind_names);
  data.test = as_tensors(test, data.kind_names);
  return data;
}
