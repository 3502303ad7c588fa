// tessera/fsdp/full_buffer.h: a flat buffer whose bytes are there only now and then, under tensors that live on.
// Promises    The views keep their identity, shape and place; where the bytes are gone, reading one throws what free() was told.
// Memory      None while it is free; the pool's while it is there.
#pragma once

#include <ATen/core/Tensor.h>

#include <string>
#include <vector>

#include "tessera/fsdp/buffer_pool.h"
#include "tessera/fsdp/flat_layout.h"

namespace tessera {

class FullBuffer {
 public:
  // There, uninitialized; with a view for each of the layout's parameters. `pool` outlives it.
  FullBuffer(const FlatLayout& layout, const at::TensorOptions& options, BufferPool& pool);
  FullBuffer(const FullBuffer&) = delete;
  FullBuffer& operator=(const FullBuffer&) = delete;

  // 1-D, padding included.
  const at::Tensor& flat() const { return flat_; }
  const at::Tensor& view(size_t index) const { return views_.at(index); }
  int64_t bytes() const { return bytes_; }
  bool is_there() const { return is_there_; }
  void allocate();  // uninitialized
  void free(const std::string& refusal);
  // As free(), but the memory is left to whoever may still write to it, for good: a transport whose operation has failed.
  void abandon(const std::string& refusal);
  // The same, in other words, where it is free.
  void refuse_with(const std::string& refusal);
  // True if the tensor is still what view(index) was made to be.
  bool is_under(const at::Tensor& tensor, size_t index) const;

 private:
  BufferPool& pool_;
  at::Tensor flat_;
  std::vector<at::Tensor> views_;
  int64_t bytes_ = 0;
  bool is_there_ = true;
};

}  // namespace tessera
