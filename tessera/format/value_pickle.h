// tessera/format/value_pickle.h: Python's plain values as the pickle of a torch.save file, and back.
// What one object item and a whole torch.save file have in common.
#pragma once

#include <string>
#include <vector>

#include "tessera/format/archive.h"
#include "tessera/format/pickle_writer.h"
#include "tessera/layout/value.h"

namespace tessera::format {

// Thrown where a value is not one that we decode.
struct Unknown {
  std::string global;  // or what else stands in the way
};

// The value of a node. Throws Unknown, or what tensor_of throws. With `elsewhere`, as for a whole file: tensors are not read but
// listed there, Value::Tensor::place being the index; parameters are tensors; attributes of an OrderedDict are dropped; and what is
// not known below a mapping becomes an Opaque without an archive.
Value decode_value(const Node& node, const Storages& storages, std::vector<TensorItem>* elsewhere = nullptr);

// Writes a value as protocol 2, as CPython would. The tensors in it are storages "0", "1", …, in the order of tensors().
// Errors  Error(unsupported) for an opaque value, Error(invalid_argument, limit) for what could not be read again.
class ValuePickler {
 public:
  void put(const Value& value);
  const std::vector<const Value::Tensor*>& tensors() const { return tensors_; }
  Bytes finish() { return out_.finish(); }

 private:
  class Visitor;
  PickleWriter out_;
  std::vector<const Value::Tensor*> tensors_;
  int depth_ = 0;
};

}  // namespace tessera::format
