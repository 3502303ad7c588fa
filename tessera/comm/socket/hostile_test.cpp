// What strangers on the network can do to a job's control plane: nothing. And what a rank of the job can that has gone mad: be named.
// Replays with TESSERA_SEED, which a failure prints.
#include <arpa/inet.h>
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <random>
#include <thread>

#include "tessera/comm/on_every_rank.h"
#include "tessera/comm/socket/curve.h"
#include "tessera/comm/socket/hello.h"
#include "tessera/comm/socket/service.h"
#include "tests/support/run_as_ranks.h"

namespace tessera {
namespace {

using testing::HasSubstr;

uint64_t seed() {
  static const uint64_t chosen = [] {
    const char* given = std::getenv("TESSERA_SEED");
    return given != nullptr ? std::strtoull(given, nullptr, 10) : std::random_device{}();
  }();
  return chosen;
}

std::string random_bytes(std::mt19937_64& random, size_t count) {
  std::string bytes(count, '\0');
  for (char& byte : bytes) byte = static_cast<char>(random());
  return bytes;
}

// A job of two ranks in this process, whose rounds go on for as long as it lives.
class Job {
 public:
  Job() : leader_(socket_leader({}, options(0))), follower_(socket_follower(leader_.invitation, options(1))) {
    threads_[0] = std::thread([this] { outcomes_[0] = capture([&] { go_on(*leader_.comm); }); });
    threads_[1] = std::thread([this] { outcomes_[1] = capture([&] { go_on(*follower_); }); });
  }
  ~Job() { end(); }

  // Ends the rounds; all of them were well, and there were some.
  void end() {
    if (over_.exchange(true)) return;
    for (std::thread& thread : threads_) thread.join();
    for (const auto& outcome : outcomes_) EXPECT_TRUE(outcome) << describe(outcome.fault);
    EXPECT_GT(rounds_, 0);
  }
  // Waits until so many more rounds are done.
  void more_rounds(int count) const {
    for (const int before = rounds_; rounds_ < before + count;) std::this_thread::sleep_for(Milliseconds(1));
  }
  int port() const { return std::stoi(door().substr(door().rfind(':') + 1)); }
  std::string door() const { return leader_.invitation.substr(0, leader_.invitation.find(' ')); }
  std::string token() const { return leader_.invitation.substr(leader_.invitation.find(' ') + 1); }

 private:
  static SocketOptions options(int rank) { return {.rank = rank, .size = 2, .silence = std::chrono::seconds(30)}; }
  void go_on(Comm& comm) {
    for (int k = 0;; ++k) {
      const std::string word = std::to_string(k) + (over_ ? " last" : " more");
      const auto all = texts_of(all_gather(comm, "round " + std::to_string(k), bytes_from(word + std::to_string(comm.rank()))));
      for (size_t r = 0; r < 2; ++r)
        EXPECT_TRUE(all[r] == std::to_string(k) + " last" + std::to_string(r) || all[r] == std::to_string(k) + " more" + std::to_string(r))
            << all[r];
      if (comm.rank() == 0) ++rounds_;
      if (all[0].find("last") != std::string::npos) return;  // as rank 0 says
    }
  }

  std::atomic<bool> over_ = false;
  std::atomic<int> rounds_ = 0;
  SocketLeader leader_;
  std::unique_ptr<Comm> follower_;
  Outcome<Done> outcomes_[2];
  std::thread threads_[2];
};

// A TCP connection of a stranger.
class Stranger {
 public:
  explicit Stranger(int port, bool wait = true) : descriptor_(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | (wait ? 0 : SOCK_NONBLOCK), 0)) {
    if (descriptor_ < 0) throw Error(os_fault(errno, "make a socket"));
    sockaddr_in address{.sin_family = AF_INET, .sin_port = htons(static_cast<uint16_t>(port))};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (connect(descriptor_, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0 && errno != EINPROGRESS) {
      throw Error(os_fault(errno, "connect"));
    }
  }
  ~Stranger() {
    if (descriptor_ >= 0) close(descriptor_);
  }
  Stranger(Stranger&& other) noexcept : descriptor_(std::exchange(other.descriptor_, -1)) {}

  // As much as the other side takes.
  void say(std::string_view words) const { sent_ = ::send(descriptor_, words.data(), words.size(), MSG_NOSIGNAL | MSG_DONTWAIT); }
  // Whether the other side closed the connection by now.
  bool shown_out() const {
    char heard[4096];
    for (;;) {
      const ssize_t count = recv(descriptor_, heard, sizeof heard, MSG_DONTWAIT);
      if (count == 0) return true;
      if (count < 0) return errno != EAGAIN && errno != EINTR;
    }
  }

 private:
  int descriptor_;
  mutable ssize_t sent_ = 0;
};

// ZeroMQ's greeting: signature, version 3.1, mechanism, role.
std::string greeting(const std::string& mechanism) {
  std::string name = mechanism;
  name.resize(20);
  return std::string("\xff\0\0\0\0\0\0\0\1\x7f\3\1", 12) + name + std::string(1 + 31, '\0');
}
std::string long_frame(uint64_t length, char flags) {
  std::string frame(1, flags);
  for (int shift = 56; shift >= 0; shift -= 8) frame.push_back(static_cast<char>(length >> shift));
  return frame;
}

int64_t resident_bytes() {
  int64_t pages = 0;
  std::ifstream statm("/proc/self/statm");
  statm >> pages >> pages;
  return pages * sysconf(_SC_PAGESIZE);
}
int64_t open_descriptors() {
  const std::filesystem::directory_iterator all("/proc/self/fd");
  return std::distance(begin(all), end(all));
}

// All are shown out, sooner or later; meanwhile each does `meanwhile`.
void expect_shown_out(const std::vector<Stranger>& strangers, const std::function<void(const Stranger&)>& meanwhile = {}) {
  const Deadline patience = Deadline::after(std::chrono::seconds(60));
  for (const Stranger& stranger : strangers) {
    while (!stranger.shown_out()) {
      ASSERT_FALSE(patience.expired());
      if (meanwhile) {
        for (const Stranger& other : strangers) meanwhile(other);
      }
      std::this_thread::sleep_for(Milliseconds(10));
    }
  }
}

TEST(Strangers, WithRandomBytesDisturbNobody) {
  SCOPED_TRACE("TESSERA_SEED=" + std::to_string(seed()));
  std::mt19937_64 random(seed());
  Job job;
  const std::string openings[] = {"", greeting("CURVE"), greeting("NULL"), greeting("PLAIN"), std::string("\xff\0\0\0\0\0\0\0\1\x7f", 10)};
  for (int k = 0; k < 300; ++k) {
    const Stranger stranger(job.port());
    stranger.say(openings[k % 5] + random_bytes(random, random() % 20'000));
    if (k % 10 == 0) job.more_rounds(1);
  }
  job.more_rounds(10);
}

TEST(Strangers, OfOtherProtocolsAreShownOut) {
  Job job;
  const std::string words[] = {
      "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
      std::string("\x16\3\1\2\0\1\0\1\xfc\3\3", 11) + std::string(508, 'x'),  // TLS
      "SSH-2.0-OpenSSH_9.2\r\n" + std::string(1000, '\0'),
      "*1\r\n$4\r\nPING\r\n" + std::string(100, '\n'),  // Redis
      "\x05\x01",                                       // SOCKS, which goes on saying nothing
  };
  std::vector<Stranger> strangers;
  for (const std::string& word : words) strangers.emplace_back(job.port()).say(word);
  expect_shown_out(strangers);
  job.more_rounds(10);
}

TEST(Strangers, WithHugeFramesAreShownOutAndWorthNoMemory) {
  Job job;
  const int64_t before = resident_bytes();
  std::vector<Stranger> strangers;
  for (const char flags : {'\2', '\3', '\6'}) {  // a message, one with more to come, a command
    for (const uint64_t length :
         {uint64_t{INT64_MAX}, uint64_t{1} << 32, uint64_t{1} << 31, static_cast<uint64_t>(frame_limit_bytes) + 1}) {
      for (const char* mechanism : {"CURVE", "NULL"}) {
        strangers.emplace_back(job.port()).say(greeting(mechanism) + long_frame(length, flags) + std::string(4096, 'x'));
      }
    }
  }
  expect_shown_out(strangers);
  job.more_rounds(10);
#if !defined(__SANITIZE_ADDRESS__)
  EXPECT_LT(resident_bytes() - before, int64_t{64} << 20);
#endif
}

TEST(Strangers, WhoStopHalfWayOrSpeakSlowlyAreShownOut) {
  Job job;
  std::vector<Stranger> strangers;
  const std::string whole = greeting("CURVE") + std::string("\4\xc8\5HELLO\1\0", 10) + std::string(150, 'x');
  std::vector<size_t> said;
  for (size_t count = 0; count <= whole.size(); count += 7) {
    strangers.emplace_back(job.port()).say(whole.substr(0, count));
    said.push_back(count);
  }
  // Every other one goes on, a byte now and then.
  int turn = 0;
  expect_shown_out(strangers, [&](const Stranger& slow) {
    const auto i = static_cast<size_t>(&slow - strangers.data());
    if (i % 2 == 0 && said[i] < whole.size() && ++turn % 10 == 0) slow.say(whole.substr(said[i]++, 1));
  });
  job.more_rounds(10);
}

// Whoever does not hold the token, saying all that a rank could.
void flood(const Job& job, const std::function<void(zmq::socket_t&)>& prepare) {
  zmq::context_t context;
  zmq::socket_t dealer(context, zmq::socket_type::dealer);
  dealer.set(zmq::sockopt::linger, 0);
  dealer.set(zmq::sockopt::sndtimeo, 1);
  prepare(dealer);
  dealer.connect(job.door());
  const Bytes stop = encode(Fault{.code = Code::aborted, .what = "a stranger says stop"});
  for (int k = 0; k < 500; ++k) {
    for (const Message& message : {hello_of(1, 2), Message{.kind = Kind::abort, .bytes = stop}, Message{.kind = Kind::bye},
                                   Message{.kind = Kind::part, .first = 1, .text = "round 7", .bytes = Bytes(1)}}) {
      dealer.send(zmq::buffer(encode(message)), zmq::send_flags::dontwait);
    }
    if (k % 100 == 0) job.more_rounds(5);
  }
}

TEST(Strangers, WithoutTheTokenAreNotHeardWhateverTheySay) {
  Job job;
  flood(job, [](zmq::socket_t&) {});
  flood(job, [](zmq::socket_t& dealer) {
    dealer.set(zmq::sockopt::plain_username, "rank1");
    dealer.set(zmq::sockopt::plain_password, "rank1");
  });
  flood(job, [](zmq::socket_t& dealer) { act_as_follower(dealer, keys_of_token(new_token())); });
  // One who knows where the job's leader is, and the leader's public key.
  flood(job, [&](zmq::socket_t& dealer) { act_as_follower(dealer, keys_of_token(job.token().substr(0, 64) + new_token().substr(64))); });
}

TEST(Strangers, InThousandsComeAndGoOrStayAndTheJobsMemoryAndDescriptorsAreBounded) {
  rlimit limit{};
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &limit), 0);
  limit.rlim_cur = limit.rlim_max;
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &limit), 0);
  const int crowd = static_cast<int>(std::min<rlim_t>(2000, limit.rlim_cur / 2));
  Job job;
  job.more_rounds(10);
  const int64_t memory = resident_bytes();
  const int64_t descriptors = open_descriptors();
  for (int k = 0; k < 2000; ++k) {
    const Stranger passing(job.port(), false);
    passing.say("GET / HTTP/1.1\r\n\r\n");
    if (k % 200 == 0) job.more_rounds(1);
  }
  int64_t most = 0;
  {
    std::vector<Stranger> staying;
    for (int k = 0; k < crowd; ++k) {
      staying.emplace_back(job.port(), false).say(k % 2 == 0 ? greeting("CURVE") : "");
      if (k % 50 == 0) job.more_rounds(1);
      most = std::max(most, open_descriptors() - descriptors - static_cast<int64_t>(staying.size()));
    }
    job.more_rounds(50);
    most = std::max(most, open_descriptors() - descriptors - static_cast<int64_t>(staying.size()));
  }
  // The room there is, and those that were taken in between a count and the next.
  EXPECT_LE(most, static_cast<int64_t>(room_for_strangers) + 256);
#if !defined(__SANITIZE_ADDRESS__)
  EXPECT_LT(resident_bytes() - memory, int64_t{96} << 20);
#endif
  std::cout << "strangers: 2000 came and went, " << crowd << " stayed; at most " << most << " descriptors, "
            << (resident_bytes() - memory) / 1024 << " KiB more\n";
  // Once they are gone, the door is open: who is not of the job is told so again.
  const auto second = capture([&] { return socket_follower(job.door() + " " + job.token(), {.rank = 1, .size = 2}); });
  EXPECT_THAT(second.fault.what, HasSubstr("rank 1 already"));
}

// A rank of the job that says hello, then whatever it likes. Returns what the leader makes of it. Of more ranks than two the others never
// come, so that no round ends before all was heard.
Fault leader_hears(const std::vector<Bytes>& frames, int ranks) {
  const SocketLeader leader = socket_leader({}, {.rank = 0, .size = ranks, .beat = Milliseconds(20), .message_limit_bytes = 1 << 20});
  const std::string token = leader.invitation.substr(leader.invitation.find(' ') + 1);
  {
    zmq::context_t context;
    zmq::socket_t dealer(context, zmq::socket_type::dealer);
    dealer.set(zmq::sockopt::linger, 10'000);
    act_as_follower(dealer, keys_of_token(token));
    dealer.connect(leader.invitation.substr(0, leader.invitation.find(' ')));
    dealer.send(zmq::buffer(encode(hello_of(1, ranks))));
    zmq::message_t welcome;
    EXPECT_TRUE(dealer.recv(welcome));
    for (const Bytes& frame : frames) dealer.send(zmq::buffer(frame));
  }
  return capture([&] { barrier(*leader.comm, "save"); }).fault;
}

Bytes part(uint64_t whole, uint64_t offset, size_t count, uint32_t line = 0) {
  return encode(Message{.kind = Kind::part, .line = line, .first = whole, .second = offset, .text = "save", .bytes = Bytes(count)});
}

TEST(MadRank, IsNamedWhateverItSays) {
  const Bytes open = encode(Message{.kind = Kind::open});
  const std::vector<std::pair<std::string, std::vector<Bytes>>> cases{
      {"nothing at all", {Bytes{}}},
      {"half a frame", {Bytes(5)}},
      {"an unknown kind", {Bytes(100, std::byte{99})}},
      {"a purpose without end", {Bytes(29, std::byte{2})}},
      {"a part beyond its message", {part(10, 0, 11)}},
      {"a part out of order", {part(10, 0, 5), part(10, 6, 4)}},
      {"an empty part", {part(10, 0, 0)}},
      {"a message above the limit", {part(uint64_t{1} << 62, 0, 1)}},
      {"a message that shrinks", {part(1000, 0, 900), part(10, 900, 1)}},
      {"a line that is not open", {part(1, 0, 1, 7)}},
      {"a line at the end of the numbers", {part(1, 0, 1, UINT32_MAX)}},
      {"lines without end", std::vector<Bytes>(200, open)},
      {"a fault that is none", {encode(Message{.kind = Kind::abort, .bytes = Bytes(7)})}},
      {"a beat that is none", {encode(Message{.kind = Kind::beat, .first = 1, .text = "write", .bytes = Bytes(3)})}},
      {"what only the leader says", {encode(Message{.kind = Kind::welcome})}},
      {"two messages in one round", {part(1, 0, 1), part(1, 0, 1)}},
      {"another round", {encode(Message{.kind = Kind::part, .text = "load"})}},
  };
  for (const auto& [name, frames] : cases) {
    const Fault fault = leader_hears(frames, 3);
    EXPECT_TRUE(fault.code == Code::corrupt || fault.code == Code::limit || fault.code == Code::internal)
        << name << ": " << describe(fault);
    EXPECT_THAT(fault.what, HasSubstr("rank 1")) << name;
  }
}

TEST(MadRank, OfRandomOrDamagedFramesIsNamedOrUnderstood) {
  SCOPED_TRACE("TESSERA_SEED=" + std::to_string(seed()));
  std::mt19937_64 random(seed());
  const Bytes good = part(40, 0, 40);
  for (int k = 0; k < 80; ++k) {
    Bytes frame = good;
    if (k % 2 == 0) frame[random() % frame.size()] ^= static_cast<std::byte>(1 + random() % 255);
    else frame.resize(random() % 200, static_cast<std::byte>(random()));
    const Outcome<Done> done{.value = std::nullopt, .fault = leader_hears({frame}, 2)};
    // It says what is wrong with rank 1, or that it is gone; unless the round went well, and there is nothing to say.
    EXPECT_TRUE(done.fault == Fault{} || done.fault.what.find("rank 1") != std::string::npos) << k << ": " << describe(done.fault);
  }
}

}  // namespace
}  // namespace tessera
