// tessera/fsdp/traversal.h: a module's parameters, buffers and units by the names that stock PyTorch gives them.
// Names       As seen from the module that the walk starts at; a Wrapped adds nothing to them. They are the same for
//             every strategy, world size and wrapping, and for a module without any wrapping.
//             A walk must start at a Wrapped or around it: a plain module inside a unit (model.module()) does not know the
//             unit that holds its parameters, and shows none.
// Order       Stock's: a module's own, in the order of registration, then its children's. What is reached by several
//             names (a tied parameter, a module registered twice) is listed once, under the first; the others are aliases.
#pragma once

#include <ATen/core/Tensor.h>

#include <memory>
#include <string>
#include <vector>

#include "tessera/fsdp/module_ref.h"
#include "tessera/fsdp/unit.h"

namespace tessera {

struct NamedParameter {
  std::string name;
  std::vector<std::string> aliases;
  at::Tensor tensor;               // the module's; in a unit, readable only while the unit is whole
  std::shared_ptr<FlatUnit> unit;  // null for a parameter outside all units: ignored (ignore.h), or of a plain module
  size_t index = 0;                // in unit->layout().parameters
};

struct NamedBuffer {
  std::string name;
  std::vector<std::string> aliases;
  at::Tensor tensor;
  at::ScalarType built_dtype;  // which it has, unless a unit's buffer_dtype is another
};

struct NamedFlatUnit {
  std::string key;                   // "h.0._flat_param"
  std::string module;                // "h.0"; "" for the module that the walk starts at
  std::vector<std::string> aliases;  // other keys
  std::shared_ptr<FlatUnit> unit;
  // For each of unit->layout().parameters: its name and aliases from where the walk starts.
  struct Names {
    std::string name;
    std::vector<std::string> aliases;
  };
  std::vector<Names> parameters;
};

std::vector<NamedParameter> named_parameters(ModuleRef module);
// Those of them that lie outside all units.
std::vector<NamedParameter> parameters_outside_units(ModuleRef module);
// Buffers that are defined.
std::vector<NamedBuffer> named_buffers(ModuleRef module);
std::vector<NamedFlatUnit> flat_units(ModuleRef module);

}  // namespace tessera
