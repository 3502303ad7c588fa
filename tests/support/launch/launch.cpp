#include "tests/support/launch/launch.h"

#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <optional>

#include "tessera/base/error.h"

namespace tessera {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int exit_deadline = 124;  // as timeout(1)
constexpr int exit_not_run = 127;   // as the shell
constexpr auto between_looks = std::chrono::milliseconds(20);
constexpr auto patience = std::chrono::seconds(3);  // between asking a rank to end and ending it

volatile sig_atomic_t asked_to_end = 0;

struct Rank {
  pid_t pid = -1;
  int output = -1;
  std::string line;          // begun, not ended
  std::optional<int> ended;  // exit code
};

[[noreturn]] void fail(const char* what) { throw Error(os_fault(errno, what)); }

// A port that nobody listens on now. Another process may take it before rank 0 does; that run then fails and says so.
int free_port() {
  const int listener = ::socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t length = sizeof address;
  if (listener < 0 || ::bind(listener, reinterpret_cast<sockaddr*>(&address), length) != 0 ||
      ::getsockname(listener, reinterpret_cast<sockaddr*>(&address), &length) != 0) {
    fail("find a free port");
  }
  ::close(listener);
  return ntohs(address.sin_port);
}

class Launch {
 public:
  Launch(const LaunchOptions& options, std::ostream& out) : options_(options), out_(out), ranks_(static_cast<size_t>(options.ranks)) {}

  int run() {
    const int port = free_port();
    for (int r = 0; r < options_.ranks; ++r) start(r, port);
    const auto deadline = Clock::now() + options_.deadline;
    std::optional<Clock::time_point> give_up;  // when those that still run are ended
    while (!all_over()) {
      pump();
      reap();
      if (code_ && !give_up) give_up = Clock::now() + options_.grace;
      if (Clock::now() > deadline && !code_) {
        say("the deadline of " + std::to_string(options_.deadline.count()) + " ms is over");
        code_ = exit_deadline;
        give_up = Clock::now();
      }
      if (asked_to_end && !code_) {
        code_ = 128 + asked_to_end;
        give_up = Clock::now();
      }
      if (give_up && Clock::now() >= *give_up) end_all();
    }
    return code_.value_or(0);
  }

 private:
  void say(const std::string& text) { out_ << "[launch] " + text + "\n" << std::flush; }

  void start(int r, int port) {
    int ends[2];
    if (::pipe(ends) != 0) fail("make a pipe");
    const pid_t launcher = ::getpid();
    const pid_t pid = ::fork();
    if (pid < 0) fail("fork");
    if (pid == 0) become(r, port, ends, launcher);
    ::setpgid(pid, pid);
    ::close(ends[1]);
    Rank& rank = ranks_[static_cast<size_t>(r)];
    rank.pid = pid;
    rank.output = ends[0];
    say("rank " + std::to_string(r) + " pid " + std::to_string(pid));
  }

  [[noreturn]] void become(int r, int port, const int ends[2], pid_t launcher) {
    ::setpgid(0, 0);
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (::getppid() != launcher) ::_exit(exit_not_run);  // it died before we asked to follow it
    ::dup2(ends[1], STDOUT_FILENO);
    ::dup2(ends[1], STDERR_FILENO);
    ::close(ends[0]);
    ::close(ends[1]);
    for (const Rank& other : ranks_) {
      if (other.output >= 0) ::close(other.output);
    }
    const auto set = [](const char* name, const std::string& value) { ::setenv(name, value.c_str(), 1); };
    for (const char* name : {"RANK", "LOCAL_RANK"}) set(name, std::to_string(r));
    for (const char* name : {"WORLD_SIZE", "LOCAL_WORLD_SIZE"}) set(name, std::to_string(options_.ranks));
    set("MASTER_ADDR", "127.0.0.1");
    set("MASTER_PORT", std::to_string(port));
    set("TORCHELASTIC_RESTART_COUNT", "0");
    ::unsetenv("TORCHELASTIC_USE_AGENT_STORE");
    std::vector<char*> words;
    for (const std::string& word : options_.command) words.push_back(const_cast<char*>(word.c_str()));
    words.push_back(nullptr);
    ::execvp(words[0], words.data());
    const std::string why = std::string(words[0]) + ": " + std::strerror(errno) + "\n";
    if (::write(STDERR_FILENO, why.data(), why.size()) < 0) ::_exit(exit_not_run);
    ::_exit(exit_not_run);
  }

  // Passes on what the ranks have written, and sleeps a little where there is nothing.
  void pump() {
    std::vector<pollfd> waiting;
    std::vector<size_t> who;
    for (size_t r = 0; r < ranks_.size(); ++r) {
      if (ranks_[r].output < 0) continue;
      waiting.push_back({ranks_[r].output, POLLIN, 0});
      who.push_back(r);
    }
    if (::poll(waiting.data(), waiting.size(), static_cast<int>(between_looks.count())) <= 0) return;
    for (size_t i = 0; i < waiting.size(); ++i) {
      if (waiting[i].revents) read_some(who[i]);
    }
  }

  void read_some(size_t r) {
    Rank& rank = ranks_[r];
    char bytes[4096];
    const ssize_t count = ::read(rank.output, bytes, sizeof bytes);
    if (count < 0 && errno == EINTR) return;
    if (count <= 0) {
      if (!rank.line.empty()) pass_on(r);
      ::close(std::exchange(rank.output, -1));
      return;
    }
    for (ssize_t i = 0; i < count; ++i) {
      if (bytes[i] == '\n') pass_on(r);
      else rank.line += bytes[i];
    }
    out_ << std::flush;
  }

  void pass_on(size_t r) {
    out_ << "[rank " + std::to_string(r) + "] " + ranks_[r].line + "\n";
    ranks_[r].line.clear();
  }

  void reap() {
    for (size_t r = 0; r < ranks_.size(); ++r) {
      int status = 0;
      if (ranks_[r].ended || ::waitpid(ranks_[r].pid, &status, WNOHANG) != ranks_[r].pid) continue;
      const int code = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
      ranks_[r].ended = code;
      if (code == 0) continue;
      say("rank " + std::to_string(r) +
          (WIFSIGNALED(status) ? " was killed by signal " + std::to_string(WTERMSIG(status))
                               : " exited with code " + std::to_string(code)));
      if (!code_) code_ = code;
    }
  }

  // First asks, a moment later insists. A rank's own children go with its process group.
  void end_all() {
    if (!asked_at_) asked_at_ = Clock::now();
    const int signal = Clock::now() - *asked_at_ < patience ? SIGTERM : SIGKILL;
    if (signal == last_signal_) return;
    last_signal_ = signal;
    for (size_t r = 0; r < ranks_.size(); ++r) {
      if (ranks_[r].ended) continue;
      if (signal == SIGTERM) say("ending rank " + std::to_string(r));
      ::kill(-ranks_[r].pid, signal);
    }
  }

  bool all_over() const {
    for (const Rank& rank : ranks_) {
      // A grandchild may hold the pipe open for ever: once the job has failed and all ranks ended, it is not waited for.
      if (!rank.ended || (rank.output >= 0 && !code_)) return false;
      if (rank.output >= 0 && readable(rank.output)) return false;
    }
    return true;
  }
  static bool readable(int descriptor) {
    pollfd one{descriptor, POLLIN, 0};
    return ::poll(&one, 1, 0) > 0;
  }

  const LaunchOptions& options_;
  std::ostream& out_;
  std::vector<Rank> ranks_;
  std::optional<int> code_;
  std::optional<Clock::time_point> asked_at_;
  int last_signal_ = 0;
};

}  // namespace

int launch(const LaunchOptions& options, std::ostream& out) {
  if (options.ranks < 1 || options.command.empty())
    throw Error({.code = Code::invalid_argument, .what = "a launch needs ranks and a command"});
  for (const int signal : {SIGINT, SIGTERM}) ::signal(signal, [](int number) { asked_to_end = number; });
  return Launch(options, out).run();
}

}  // namespace tessera
