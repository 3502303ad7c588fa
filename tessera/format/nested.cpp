#include "tessera/format/nested.h"

#include <algorithm>
#include <memory>

#include "tessera/base/error.h"

namespace tessera::format {
namespace {

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

std::string key_text(const Value& key) {
  if (const auto* text = key.as<std::string>()) return *text;
  const bool plain = key.as<int64_t>() || key.as<bool>() || key.as<double>() || key.as<Value::None>() || key.as<Value::BigInt>();
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

// The place of `element` in a container, made if it is not there.
Value& place(Value& container, const PathElement& element) {
  if (const auto* index = std::get_if<int64_t>(&element)) {
    if (!container.as<Value::Sequence>()) container = Value::list({});
    auto& items = std::get<Value::Sequence>(container.is).items;
    if (items.size() <= static_cast<size_t>(*index)) items.resize(static_cast<size_t>(*index) + 1);
    return items[static_cast<size_t>(*index)];
  }
  if (!container.as<Value::Mapping>()) container = Value::Mapping{};
  auto& items = std::get<Value::Mapping>(container.is).items;
  const Value key(std::get<std::string>(element));
  for (auto& [known, value] : items) {
    if (known == key) return value;
  }
  return items.emplace_back(key, Value()).second;
}

}  // namespace

void check_paths(const std::map<std::string, const KeyPath*>& paths, Code code) {
  Container root;
  const auto most = static_cast<int64_t>(paths.size());
  for (const auto& [key, path] : paths) {
    const auto fail = [&](const char* what) { return Error({.code = code, .what = "the path of '" + key + "' " + what}); };
    if (path->empty()) throw fail("is empty");
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
}

std::vector<std::pair<KeyPath, Value>> flatten(const Value& nested) {
  std::vector<std::pair<KeyPath, Value>> leaves;
  KeyPath path;
  flatten_into(nested, path, leaves);
  return leaves;
}

Value unflatten(const std::vector<std::pair<KeyPath, Value>>& leaves) {
  Value root = Value::Mapping{};
  for (const auto& [path, value] : leaves) {
    Value* at = &root;
    for (const PathElement& element : path) at = &place(*at, element);
    *at = value;
  }
  return root;
}

}  // namespace tessera::format
