#include "tessera/transfer/tensor_reader.h"

#include "tessera/plan/load_plan.h"
#include "tessera/transfer/about.h"

namespace tessera {

void TensorReader::read(const Box& box, const View& into) {
  const bool fitting = fits(box, entry_.sizes) && into.sizes == box.sizes && into.strides.size() == box.sizes.size();
  if (!fitting || !can_cast(entry_.dtype, into.dtype)) {
    throw Error({.code = Code::invalid_argument,
                 .what = "box " + to_string(box) + " of '" + key_ + "', which is " + std::string(name(entry_.dtype)) + " " +
                         to_string(entry_.sizes) + ", does not fit what was asked for: " + std::string(name(into.dtype)) + " " +
                         to_string(into.sizes)});
  }
  for (const ChunkRead& read : cut(entry_, box)) {
    auto found = open_.find(read.chunk);
    if (found == open_.end()) found = open_.emplace(read.chunk, Open{items_->tensor(key_, entry_, entry_.chunks[read.chunk]), {}}).first;
    Open& open = found->second;
    count_ += about(key_, [&] { return read_item(open.item, read.from, part(into, read.to), &open.crc); });
    if (!open.crc.complete) continue;
    count_.unverified_bytes -= open.crc.earlier_bytes;
    open_.erase(found);
  }
}

ReadCount TensorReader::count() const { return count_; }

}  // namespace tessera
