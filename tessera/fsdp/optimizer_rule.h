// tessera/fsdp/optimizer_rule.h: what tells one optimizer from another: the state that it keeps, and what a step does with it.
#pragma once

#include <string>
#include <vector>

#include "tessera/fsdp/optimizer.h"
#include "tessera/fsdp/stretch.h"

namespace tessera {

class Optimizer::Rule {
 public:
  virtual ~Rule() = default;
  virtual std::vector<std::string> moment_names() const = 0;
  // Whether a group with these options keeps the moment.
  virtual bool keeps(const std::vector<NamedOption>& options, size_t moment) const = 0;
  virtual bool counts_steps() const = 0;
  virtual double initial(const std::vector<NamedOption>& options) const = 0;  // what moments of the group begin as
  // `steps` counts this one; `begun` is false in a parameter's first.
  virtual void apply(const std::vector<NamedOption>& options, double steps, bool begun, const Stretch& at) const = 0;
};

}  // namespace tessera
