#include "tessera/fsdp/group_options.h"

#include <cassert>
#include <cstring>

#include "tessera/base/error.h"

namespace tessera {
namespace {

Error wrong_option(const std::string& name, const Value& value) {
  return Error({.code = Code::mismatch, .what = name + " cannot be " + to_string(value)});
}

template <class Number>
double decoded(const Value::Tensor& tensor) {
  Number number = 0;
  std::memcpy(&number, tensor.data.data(), sizeof number);
  return number;
}

std::pair<double, double> as_pair(const std::string& name, const Value& value) {
  const auto* sequence = value.as<Value::Sequence>();
  if (sequence == nullptr || sequence->items.size() != 2) throw wrong_option(name, value);
  return {as_number(name, sequence->items[0]), as_number(name, sequence->items[1])};
}

bool as_flag(const std::string& name, const Value& value) {
  if (const auto* yes = value.as<bool>()) return *yes;
  throw wrong_option(name, value);
}

const Value& option(const std::vector<NamedOption>& options, std::string_view name) {
  const Value* value = find_option(options, name);
  assert(value != nullptr);  // optimizers are built with all of theirs, and none is ever removed
  return *value;
}

}  // namespace

double as_number(const std::string& name, const Value& value) {
  if (const auto* real = value.as<double>()) return *real;
  if (const auto* whole = value.as<int64_t>()) return static_cast<double>(*whole);
  if (const auto* tensor = value.as<Value::Tensor>(); tensor != nullptr && tensor->sizes.empty()) {
    if (tensor->dtype == DType::float32 && tensor->data.size() == sizeof(float)) return decoded<float>(*tensor);
    if (tensor->dtype == DType::float64 && tensor->data.size() == sizeof(double)) return decoded<double>(*tensor);
  }
  throw wrong_option(name, value);
}

const Value* find_option(const std::vector<NamedOption>& options, std::string_view name) {
  for (const auto& [key, value] : options) {
    if (key == name) return &value;
  }
  return nullptr;
}

double number(const std::vector<NamedOption>& options, std::string_view name) {
  return as_number(std::string(name), option(options, name));
}
std::pair<double, double> pair_of_numbers(const std::vector<NamedOption>& options, std::string_view name) {
  return as_pair(std::string(name), option(options, name));
}
bool flag(const std::vector<NamedOption>& options, std::string_view name) { return as_flag(std::string(name), option(options, name)); }
bool is_fused(const std::vector<NamedOption>& options) {
  const bool* fused = option(options, "fused").as<bool>();
  return fused != nullptr && *fused;
}

void check_option(const std::string& name, const Value& present, const Value& value) {
  if (name == "foreach" || name == "fused") {
    if (!value.as<Value::None>()) as_flag(name, value);
  } else if (present.as<bool>()) {
    as_flag(name, value);
  } else if (present.as<Value::Sequence>()) {
    as_pair(name, value);
  } else {
    as_number(name, value);
  }
}

double not_negative(const char* name, double value) {
  if (value >= 0) return value;
  throw Error({.code = Code::invalid_argument, .what = std::string(name) + " cannot be " + to_string(Value(value))});
}

}  // namespace tessera
