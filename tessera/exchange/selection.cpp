#include "tessera/exchange/selection.h"

#include <algorithm>

#include "tessera/transfer/pieces.h"

namespace tessera {

Selection::Selection(const Checkpoint& from, const KeyFilter& filter, const std::vector<CastRule>& casts, bool tensors_only) : from_(from) {
  for (const auto& [key, entry] : from.manifest().entries) {
    if (!filter.takes(key)) continue;
    if (const auto* tensor = std::get_if<TensorEntry>(&entry.is)) {
      tensors_.push_back({key, entry.path, tensor, wanted_dtype(casts, key, tensor->dtype)});
    } else if (!tensors_only) {
      objects_.push_back({key, entry.path});
    }
  }
  if (tensors_.empty() && objects_.empty()) {
    throw Error({.code = Code::not_found, .what = "no key of the checkpoint is taken", .hint = "`tessera ls` shows the keys"});
  }
}

void Selection::read(const SelectedTensor& tensor, const Box& box, const Take& take) {
  if (reading_ != &tensor) {
    if (reader_) done_ += reader_->count();
    reader_ = std::make_unique<TensorReader>(from_.reader(tensor.key));
    reading_ = &tensor;
  }
  const int64_t each = element_bytes(tensor.dtype);
  for_each_piece(box.sizes, std::max<int64_t>(1, piece_bytes_ / each), [&](const Box& piece) {
    Box at = piece;
    for (size_t d = 0; d < at.offsets.size(); ++d) at.offsets[d] += box.offsets[d];
    const auto count = static_cast<size_t>(volume(piece) * each);
    if (room_.size() < count) room_.resize(count);
    reader_->read(at, dense_view(room_.data(), tensor.dtype, piece.sizes));
    take(std::span(room_).first(count));
    if (progress_) progress_(static_cast<int64_t>(count));
  });
}

int64_t Selection::total_bytes() const {
  int64_t total = 0;
  for (const SelectedTensor& tensor : tensors_) total += tensor.bytes();
  return total;
}

ReadCount Selection::count() const {
  ReadCount all = done_;
  if (reader_) all += reader_->count();
  return all;
}

}  // namespace tessera
