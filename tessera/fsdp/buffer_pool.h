// tessera/fsdp/buffer_pool.h: the memory of whole buffers and gradients, which goes from one unit to the next.
// A unit's buffer is taken and freed again in every forward and backward. From the system that is costly: it gives fresh pages, and
// fills each with zeros when it is first touched. So what is freed is kept for whoever next wants as many bytes.
// Promises    What is in use and what is kept never come to more than was in use at some one moment of an iteration; so keeping raises no
//             peak of the buffers' own. Where somebody wants another size, what was kept longest goes first.
//             Memory is kept once nobody uses it any more: no tensor, and no view of one.
// Failures    After a collective failed, a transport may still write where it was told to: stop_keeping() for good.
// Memory      Of the CPU only; allocators of accelerators keep theirs themselves.
// Lifetime    What was handed out may outlive the pool.
// Threads     Memory may come back on any thread, as one of a transport; all else from the rank's one.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>

namespace tessera {

// Bytes of memory of the CPU.
struct BufferUse {
  int64_t in_use = 0;
  int64_t kept = 0;  // freed, for the next
  int64_t peak = 0;  // of both together
  int64_t fresh = 0;  // taken from the system, in all
};

class BufferPool {
 public:
  BufferPool();
  ~BufferPool();
  BufferPool(const BufferPool&) = delete;
  BufferPool& operator=(const BufferPool&) = delete;

  // Both uninitialized.
  at::DataPtr allocate(at::Device device, int64_t bytes);
  at::Tensor empty(int64_t numel, const at::TensorOptions& options);  // 1-D

  // Around a forward and its backward: what is then in use at most is what may be held until the next one ends. Nothing is kept
  // before the first has ended. A begin() without an end() is forgotten.
  void begin_iteration();
  void end_iteration();
  void stop_keeping();

  BufferUse use() const;
  void reset_use();  // the peak starts again from what is held now, `fresh` from 0

 private:
  struct Shared;
  std::shared_ptr<Shared> shared_;
};

}  // namespace tessera
