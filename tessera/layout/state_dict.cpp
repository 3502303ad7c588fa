#include "tessera/layout/state_dict.h"

#include "tessera/base/error.h"

namespace tessera {

std::string join(const KeyPath& path) {
  std::string key;
  for (size_t i = 0; i < path.size(); ++i) {
    if (i > 0) key += '.';
    if (const auto* index = std::get_if<int64_t>(&path[i])) key += std::to_string(*index);
    else key += std::get<std::string>(path[i]);
  }
  return key;
}

void StateDict::add(std::string key, std::variant<TensorLeaf, Value, RankLocal> leaf, KeyPath path) {
  if (path.empty()) path = {key};
  const auto [at, added] = leaves.try_emplace(std::move(key), Leaf{std::move(path), std::move(leaf)});
  if (!added) throw Error({.code = Code::invalid_argument, .what = "two values under one key: " + at->first});
}

void StateDict::add_all(const std::string& prefix, StateDict inner) {
  for (auto& [key, leaf] : inner.leaves) {
    KeyPath path = {prefix};
    path.insert(path.end(), leaf.path.begin(), leaf.path.end());
    add(prefix + "." + key, std::move(leaf.is), std::move(path));
  }
}

const Value* StateDict::object(const std::string& key) const {
  const auto found = leaves.find(key);
  return found == leaves.end() ? nullptr : std::get_if<Value>(&found->second.is);
}

TensorLeaf replicated(View view, bool alike) {
  TensorLeaf leaf{.dtype = view.dtype, .sizes = view.sizes, .layout = Replicated{.alike = alike}};
  leaf.shards.push_back({whole(view.sizes), std::move(view)});
  return leaf;
}

}  // namespace tessera
