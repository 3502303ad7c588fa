// tessera/layout/key_filter.h: some of the keys of a checkpoint, by patterns as a shell has them.
// Patterns    '*' stands for any characters, '.' and none included; '?' for one; all others for themselves. A pattern covers a whole
//             key: a prefix is "model.*". Keys are bytes: '?' takes one byte of UTF-8.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace tessera {

bool matches(std::string_view pattern, std::string_view key);

struct KeyFilter {
  std::vector<std::string> keys = {};     // what is taken; all where there are none
  std::vector<std::string> exclude = {};  // and of these not
  bool takes(std::string_view key) const;
  bool takes_all() const { return keys.empty() && exclude.empty(); }
};

}  // namespace tessera
