#include "tessera/fsdp/policy.h"

#include <algorithm>
#include <utility>

namespace tessera {

WrapPolicy wrap_from(int64_t numel) {
  return [numel](const WrapCandidate& candidate) { return candidate.numel >= numel; };
}

WrapPolicy wrap_named(std::function<bool(std::string_view name)> is_one) {
  return [is_one = std::move(is_one)](const WrapCandidate& candidate) { return is_one(candidate.name); };
}

WrapPolicy any_of(std::vector<WrapPolicy> policies) {
  return [policies = std::move(policies)](const WrapCandidate& candidate) {
    return std::ranges::any_of(policies, [&](const WrapPolicy& policy) { return policy(candidate); });
  };
}

}  // namespace tessera
