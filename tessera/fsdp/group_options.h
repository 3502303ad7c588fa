// tessera/fsdp/group_options.h: the options of a parameter group, kept as stock saves them, and read as numbers and flags.
// Errors      Error(mismatch) for an option of another type, Error(invalid_argument) for a number that stock refuses.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tessera/layout/value.h"

namespace tessera {

using NamePredicate = std::function<bool(std::string_view name)>;

// One option of a group by stock's name, as stock saves it: {"betas", (0.9, 0.999)}, {"foreach", None}.
using NamedOption = std::pair<std::string, Value>;

struct GroupOptions {
  NamePredicate params;  // which names the group takes; an empty one takes all
  std::vector<NamedOption> options;
};

// Null where there is none of that name.
const Value* find_option(const std::vector<NamedOption>& options, std::string_view name);

// An option that every group has.
double number(const std::vector<NamedOption>& options, std::string_view name);
std::pair<double, double> pair_of_numbers(const std::vector<NamedOption>& options, std::string_view name);
bool flag(const std::vector<NamedOption>& options, std::string_view name);
bool is_fused(const std::vector<NamedOption>& options);  // None, as stock has it by default, is no

// A value that is said to be a number, under its name: a float, an int, or a 0-dim tensor, as stock may keep a learning rate.
double as_number(const std::string& name, const Value& value);

// Throws where `value` cannot take the place of `present`: numbers stay numbers. Only foreach and fused may be None.
void check_option(const std::string& name, const Value& present, const Value& value);

// The same number, unless stock refuses it in a constructor.
double not_negative(const char* name, double value);

// `given` as all optimizers take it: options, and groups that override them. `describe(given, group)` lists stock's.
template <class Given, class Describe>
std::vector<GroupOptions> describe_groups(const Given& given, Describe describe) {
  std::vector<GroupOptions> groups;
  for (const auto& group : given.groups) groups.push_back({group.params, describe(given, group)});
  groups.push_back({{}, describe(given, {})});
  return groups;
}

// How stock keeps the option `fused`.
inline Value fused_option(bool fused) { return fused ? Value(true) : Value(); }

}  // namespace tessera
