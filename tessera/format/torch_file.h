// tessera/format/torch_file.h: a state dict in one file, as torch.save writes it: the zip form of 1.6 and later, and the one before.
// Source      torch 2.2 to 2.13; layout in docs/format.md.
// Reading     Tensors are found and not read; views, shared storages and byte order are as TensorItem says. Nothing is ever run: what
//             we do not decode is an Opaque without an archive, that is, it can be named and not be carried over.
// Writing     Protocol 2, one storage for each tensor, so that what was tied before is two tensors. torch.load(weights_only=True)
//             reads all that is written: values that it refuses are refused here.
// Errors      Error(corrupt, unsupported or limit) with file and offset.
#pragma once

#include <map>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "tessera/base/byte_source.h"
#include "tessera/format/item.h"
#include "tessera/format/limits.h"
#include "tessera/layout/state_dict.h"

namespace tessera::format {

struct TorchFile {
  struct Leaf {
    KeyPath path;
    std::variant<size_t, Value> is;  // an index in `tensors`, or an object, whose own tensors are there by their `place`
  };
  std::map<std::string, Leaf> leaves;  // by flat key
  std::vector<TensorItem> tensors;
};
bool is_torch_file(const ByteSource& file);
TorchFile read_torch_file(const ByteSource& file, const Limits& limits = {});

// The layout of a file to be written, by arithmetic: everything but the data of the tensors and what depends on it, their CRCs.
class TorchFileLayout {
 public:
  // Leaves by path; a Value::Tensor with a `place` is one whose data the caller writes.
  // Errors  Error(unsupported, invalid_argument) naming the key.
  explicit TorchFileLayout(const std::vector<std::pair<KeyPath, Value>>& leaves);

  struct Data {
    int64_t place = -1;  // of the Value::Tensor; below 0 for a tensor inside an object, whose `bytes` are here
    std::vector<std::byte> bytes;
    int64_t offset_bytes = 0;
    int64_t size_bytes = 0;
  };
  // In the order of the file.
  const std::vector<Data>& data() const { return data_; }
  // The rest, once the CRC-32 of each data is known: (offset, bytes).
  std::vector<std::pair<int64_t, Bytes>> frame(std::span<const uint32_t> crcs) const;

 private:
  Bytes pickle_;
  std::vector<Data> data_;
};

}  // namespace tessera::format
