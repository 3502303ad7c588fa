#include "tessera/format/nested.h"

#include <algorithm>
#include <memory>

#include "tessera/base/error.h"

namespace tessera::format {
namespace {

constexpr size_t longest_path = 100;     // as deep as values may be nested in a pickle
constexpr int64_t spare_indices = 1000;  // empty dicts in lists, which leave no trace: so many, and one for each key

// A container of the nesting, by the elements that lead on from it.
struct Container {
  enum class Kind : uint8_t { unknown, leaf, dict, list } kind = Kind::unknown;
  std::map<PathElement, Container> inner;
};

// Turns into `kind` what is nothing yet; false if it is something else.
bool becomes(Container& container, Container::Kind kind) {
  if (container.kind == Container::Kind::unknown) container.kind = kind;
  return container.kind == kind;
}

// Indices of lists that no key has: what was there left no trace, as an empty dict.
int64_t holes(const Container& container) {
  int64_t sum = 0;
  if (container.kind == Container::Kind::list) {
    sum = std::get<int64_t>(container.inner.rbegin()->first) + 1 - static_cast<int64_t>(container.inner.size());
  }
  for (const auto& [element, inner] : container.inner) sum += holes(inner);
  return sum;
}

// As Python's str() has it. A float's is not worth its rules: stock writes none.
std::string key_text(const Value& key) {
  if (const auto* text = key.as<std::string>()) return *text;
  const bool plain = key.as<int64_t>() || key.as<bool>() || key.as<Value::None>() || key.as<Value::BigInt>();
  if (!plain) throw Error({.code = Code::invalid_argument, .what = "a mapping's key " + to_string(key) + " cannot be a part of a name"});
  return to_string(key);
}

bool holds_structure(const Value::Sequence& list) {
  return std::ranges::any_of(list.items, [](const Value& item) {
    if (item.as<Value::Mapping>() || item.as<Value::Tensor>()) return true;
    const auto* inner = item.as<Value::Sequence>();
    return inner && inner->kind == Value::SequenceKind::list && holds_structure(*inner);
  });
}

void flatten_into(const Value& value, KeyPath& path, std::vector<std::pair<KeyPath, Value>>& leaves) {
  const auto descend = [&](PathElement element, const Value& inner) {
    path.push_back(std::move(element));
    flatten_into(inner, path, leaves);
    path.pop_back();
  };
  if (const auto* mapping = value.as<Value::Mapping>()) {
    for (const auto& [key, inner] : mapping->items) descend(key_text(key), inner);
    return;
  }
  const auto* list = value.as<Value::Sequence>();
  if (list && list->kind == Value::SequenceKind::list && holds_structure(*list)) {
    for (size_t i = 0; i < list->items.size(); ++i) descend(static_cast<int64_t>(i), list->items[i]);
    return;
  }
  leaves.emplace_back(path, value);
}

// A nested value that is being put together: a container by its elements, or a leaf.
struct Tree {
  const Value* leaf = nullptr;
  std::vector<PathElement> order;  // as the elements first came
  std::map<PathElement, Tree> inner;
};

Value value_of(const Tree& tree) {
  if (tree.leaf) return *tree.leaf;
  if (tree.order.empty() || std::holds_alternative<std::string>(tree.order.front())) {
    Value::Mapping mapping;
    for (const PathElement& element : tree.order)
      mapping.items.emplace_back(std::get<std::string>(element), value_of(tree.inner.at(element)));
    return mapping;
  }
  // Sorted by index, the last one says how long the list is.
  std::vector<Value> items(static_cast<size_t>(std::get<int64_t>(tree.inner.rbegin()->first)) + 1);
  for (const auto& [element, inner] : tree.inner) items[static_cast<size_t>(std::get<int64_t>(element))] = value_of(inner);
  return Value::list(std::move(items));
}

}  // namespace

bool is_own_path(std::string_view key, const KeyPath& path) {
  const auto* const name = path.size() == 1 ? std::get_if<std::string>(&path[0]) : nullptr;
  return name && *name == key;
}

void check_paths(const std::map<std::string, const KeyPath*>& paths, Code code) {
  Container root;
  const int64_t most = static_cast<int64_t>(paths.size()) + spare_indices;
  for (const auto& [key, path] : paths) {
    const auto fail = [&, &name = key](const char* what) { return Error({.code = code, .what = "the path of '" + name + "' " + what}); };
    if (path->empty()) throw fail("is empty");
    if (path->size() > longest_path) throw fail("is nested too deeply");
    Container* at = &root;
    for (const PathElement& element : *path) {
      const auto* index = std::get_if<int64_t>(&element);
      if (index && (*index < 0 || *index >= most)) throw fail("has a list index that cannot be");
      if (!becomes(*at, index ? Container::Kind::list : Container::Kind::dict))
        throw fail("goes through what another key has as something else");
      at = &at->inner[element];
    }
    // A leaf is marked by an inner name, so that a second key with its path is found as one that goes through it.
    if (!becomes(*at, Container::Kind::leaf) || !at->inner.empty()) throw fail("is that of another key, or ends where one goes on");
    at->inner[PathElement(std::string())];
  }
  if (holes(root) > most) throw Error({.code = code, .what = "lists with more holes than there are keys"});
}

std::vector<std::pair<KeyPath, Value>> flatten(const Value& nested) {
  std::vector<std::pair<KeyPath, Value>> leaves;
  KeyPath path;
  flatten_into(nested, path, leaves);
  return leaves;
}

Value unflatten(const std::vector<std::pair<KeyPath, Value>>& leaves) {
  if (leaves.size() == 1 && leaves[0].first.empty()) return leaves[0].second;  // what was no container
  std::map<std::string, const KeyPath*> paths;
  for (size_t i = 0; i < leaves.size(); ++i) paths.emplace(join(leaves[i].first) + '\n' + std::to_string(i), &leaves[i].first);
  check_paths(paths, Code::invalid_argument);
  Tree root;
  for (const auto& [path, value] : leaves) {
    Tree* at = &root;
    for (const PathElement& element : path) {
      const auto [inner, fresh] = at->inner.try_emplace(element);
      if (fresh) at->order.push_back(element);
      at = &inner->second;
    }
    at->leaf = &value;
  }
  return value_of(root);
}

}  // namespace tessera::format
