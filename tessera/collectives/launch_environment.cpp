#include "tessera/collectives/launch_environment.h"

#include <charconv>
#include <cstring>
#include <limits>

#include "tessera/base/error.h"

namespace tessera {
namespace {

constexpr int most_ranks = 1 << 20;

Error bad(const char* name, const std::string& what) {
  return Error({.code = Code::invalid_argument,
                .what = std::string(name) + " " + what,
                .hint = "a launcher such as torchrun sets it; unset WORLD_SIZE to run alone"});
}

std::optional<int> find_number(const Variables& variables, const char* name, int least, int most) {
  const char* text = variables(name);
  if (!text) return std::nullopt;
  int number = 0;
  const auto [end, failure] = std::from_chars(text, text + std::strlen(text), number);
  if (failure != std::errc() || *end != '\0' || number < least || number > most)
    throw bad(name, "is '" + std::string(text) + "', which is no number from " + std::to_string(least) + " to " + std::to_string(most));
  return number;
}

int number(const Variables& variables, const char* name, int least, int most) {
  const auto found = find_number(variables, name, least, most);
  if (!found) throw bad(name, "is not set, though WORLD_SIZE is");
  return *found;
}

}  // namespace

int number_from(const Variables& variables, const char* name, int least, int most, int otherwise) {
  return find_number(variables, name, least, most).value_or(otherwise);
}

std::optional<LaunchEnvironment> launch_environment(const Variables& variables) {
  const auto size = find_number(variables, "WORLD_SIZE", 1, most_ranks);
  if (!size) return std::nullopt;
  LaunchEnvironment environment;
  environment.size = *size;
  environment.rank = number(variables, "RANK", 0, *size - 1);
  environment.local_rank = number_from(variables, "LOCAL_RANK", 0, most_ranks, environment.rank);
  environment.restart_count = number_from(variables, "TORCHELASTIC_RESTART_COUNT", 0, std::numeric_limits<int>::max(), 0);
  const char* agent = variables("TORCHELASTIC_USE_AGENT_STORE");
  environment.agent_store = agent && std::strcmp(agent, "True") == 0;
  const char* address = variables("MASTER_ADDR");
  if (!address || !*address) throw bad("MASTER_ADDR", "is not set, though WORLD_SIZE is");
  environment.master_address = address;
  environment.master_port = number(variables, "MASTER_PORT", 1, 65535);
  return environment;
}

}  // namespace tessera
