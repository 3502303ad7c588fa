#include "tessera/layout/key_filter.h"

#include <algorithm>

namespace tessera {

bool matches(std::string_view pattern, std::string_view key) {
  size_t p = 0;
  size_t k = 0;
  // Where the last star was, and how much of the key it has taken: the only place to come back to.
  size_t star = std::string_view::npos;
  size_t taken = 0;
  while (k < key.size()) {
    if (p < pattern.size() && pattern[p] == '*') {
      star = p++;
      taken = k;
    } else if (p < pattern.size() && (pattern[p] == '?' || pattern[p] == key[k])) {
      ++p;
      ++k;
    } else if (star != std::string_view::npos) {
      p = star + 1;
      k = ++taken;
    } else {
      return false;
    }
  }
  return pattern.find_first_not_of('*', p) == std::string_view::npos;
}

bool KeyFilter::takes(std::string_view key) const {
  const auto among = [&](const std::vector<std::string>& patterns) {
    return std::ranges::any_of(patterns, [&](const std::string& pattern) { return matches(pattern, key); });
  };
  return (keys.empty() || among(keys)) && !among(exclude);
}

}  // namespace tessera
