// tessera/comm/socket/wake.h: a bell that a thread in poll() hears.
// Threads     ring() from any.
#pragma once

namespace tessera {

class Wake {
 public:
  Wake();
  ~Wake();
  Wake(const Wake&) = delete;
  Wake& operator=(const Wake&) = delete;
  int descriptor() const { return descriptor_; }  // readable once rung
  void ring() const;
  void hush() const;

 private:
  int descriptor_;
};

}  // namespace tessera
