// tessera/collectives/deaf_threads.h: threads that LibTorch starts while one of these lives are born deaf to SIGPIPE.
// Both the store and Gloo write to connections that may have closed, and a peer's death would end this process without a word. (A Python
// process ignores the signal anyway.)
#pragma once

#include <csignal>

namespace tessera {

class ThreadsDeafToBrokenPipes {
 public:
  ThreadsDeafToBrokenPipes() {
    sigset_t broken_pipe;
    sigemptyset(&broken_pipe);
    sigaddset(&broken_pipe, SIGPIPE);
    pthread_sigmask(SIG_BLOCK, &broken_pipe, &before_);
  }
  ~ThreadsDeafToBrokenPipes() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }
  ThreadsDeafToBrokenPipes(const ThreadsDeafToBrokenPipes&) = delete;
  ThreadsDeafToBrokenPipes& operator=(const ThreadsDeafToBrokenPipes&) = delete;

 private:
  sigset_t before_;
};

}  // namespace tessera
