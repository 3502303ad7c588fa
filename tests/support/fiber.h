// tests/support/fiber.h: a body of code with a stack of its own, which runs until it yields. A switch takes half a microsecond, where two
// threads that hand each other the turn take fourteen: hundreds of ranks run in one thread, in an order that the caller decides.
// Exceptions  Each fiber has its own: one may yield in the middle of a catch block. None may leave the body.
// Sanitizers  ASan and TSan are told of each switch.
#pragma once

#include <ucontext.h>

#include <cstddef>
#include <functional>
#include <memory>

namespace tessera {

class Fiber {
 public:
  explicit Fiber(std::function<void()> body);
  // Its body has ended: what it holds must be destroyed in it, not with it.
  ~Fiber();
  Fiber(const Fiber&) = delete;
  Fiber& operator=(const Fiber&) = delete;

  // From outside any fiber: runs the body until it yields or ends.
  void resume();
  // From inside the body: back to whoever resumed it.
  void yield();
  bool ended() const { return ended_; }

 private:
  // What the C++ runtime keeps for each thread: the exceptions that are being caught, and how many are on their way.
  struct Exceptions {
    void* caught = nullptr;
    unsigned int uncaught = 0;
  };
  class Stack;
  static void enter(unsigned int high, unsigned int low);
  void run();
  void swap_exceptions();
  void switch_to(ucontext_t& from, ucontext_t& to, bool into);

  std::function<void()> body_;
  std::unique_ptr<Stack> stack_;
  ucontext_t inside_ = {};
  ucontext_t outside_ = {};
  Exceptions exceptions_;
  bool ended_ = false;
};

}  // namespace tessera
