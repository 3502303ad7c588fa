#include "tessera/fsdp/full_buffer.h"

#include <c10/core/StorageImpl.h>

#include <cassert>

namespace tessera {

FullBuffer::FullBuffer(const FlatLayout& layout, const at::TensorOptions& options, BufferPool& pool)
    : pool_(pool),
      flat_(pool.empty(layout.padded_numel, options)),
      bytes_(layout.padded_numel * static_cast<int64_t>(flat_.element_size())) {
  for (const FlatParameter& place : layout.parameters) views_.push_back(flat_.narrow(0, place.offset, place.numel).view(place.sizes));
}

void FullBuffer::allocate() {
  assert(!is_there_);
  c10::StorageImpl* storage = flat_.storage().unsafeGetStorageImpl();
  at::DataPtr bytes = pool_.allocate(flat_.device(), bytes_);  // may throw: then it is free as before
  storage->clear_data_ptr_access_error_msg_();
  storage->set_data_ptr_noswap(std::move(bytes));
  storage->set_nbytes(static_cast<size_t>(bytes_));
  is_there_ = true;
}

void FullBuffer::free(const std::string& refusal) {
  c10::StorageImpl* storage = flat_.storage().unsafeGetStorageImpl();
  storage->set_data_ptr_noswap(storage->allocator()->allocate(0));
  storage->set_nbytes(static_cast<size_t>(0));
  is_there_ = false;
  refuse_with(refusal);
}

void FullBuffer::abandon(const std::string& refusal) {
  c10::StorageImpl* storage = flat_.storage().unsafeGetStorageImpl();
  at::DataPtr left = storage->set_data_ptr(storage->allocator()->allocate(0));
  left.release_context();
  free(refusal);
}

void FullBuffer::refuse_with(const std::string& refusal) {
  if (!is_there_) flat_.storage().unsafeGetStorageImpl()->release_data_and_set_meta_custom_data_ptr_error_msg_(refusal);
}

bool FullBuffer::is_under(const at::Tensor& tensor, size_t index) const {
  return tensor.storage().unsafeGetStorageImpl() == flat_.storage().unsafeGetStorageImpl() &&
         tensor.storage_offset() == views_.at(index).storage_offset();
}

}  // namespace tessera
