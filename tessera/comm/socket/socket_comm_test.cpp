#include "tessera/comm/socket/socket_comm.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <signal.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>

#include "tests/support/comm_conformance.h"

#if defined(__SANITIZE_THREAD__)
// libzmq and its libsodium are not built with TSan, which then cannot see how frames pass between threads: that is not about our code.
extern "C" __attribute__((visibility("default"))) const char* __tsan_default_suppressions() {
  return "called_from_lib:libzmq.so\ncalled_from_lib:libsodium.so\nrace:zmq::\n";
}
#endif

namespace tessera {
namespace {

using testing::HasSubstr;

Comms socket_comms(int ranks, Milliseconds deadline) {
  SocketLeader leader = socket_leader({}, {.rank = 0, .size = ranks, .deadline = deadline});
  Comms comms;
  comms.push_back(std::move(leader.comm));
  for (int r = 1; r < ranks; ++r) comms.push_back(socket_follower(leader.invitation, {.rank = r, .size = ranks, .deadline = deadline}));
  return comms;
}

INSTANTIATE_TEST_SUITE_P(Sockets, CommConformance, testing::Values(CommKind{"sockets", socket_comms}),
                         [](const auto& kind) { return kind.param.name; });

constexpr SocketOptions quick{.rank = 0, .size = 2, .beat = Milliseconds(50)};

SocketOptions quick_as(int rank) {
  SocketOptions options = quick;
  options.rank = rank;
  return options;
}

// One that does not wait long for beats.
SocketOptions strict_as(int rank) {
  SocketOptions options = quick_as(rank);
  options.silence = std::chrono::seconds(2);
  return options;
}

int port_of(const std::string& invitation) {
  const size_t space = invitation.find(' ');
  return std::stoi(invitation.substr(invitation.rfind(':', space) + 1));
}

// This program again, as a rank of its own process: it runs the one test below that the environment asks for.
class RankProcess {
 public:
  RankProcess(const std::string& role, const std::string& invitation) {
    const std::string filter = "--gtest_filter=RankProcess.DISABLED_" + role;
    const std::string environment = "TEST_INVITATION=" + invitation;
    const char* arguments[] = {"rank", filter.c_str(), "--gtest_also_run_disabled_tests", nullptr};
    std::vector<const char*> variables{environment.c_str()};
    for (char** variable = environ; *variable != nullptr; ++variable) variables.push_back(*variable);
    variables.push_back(nullptr);
    const int failed =
        posix_spawn(&pid_, "/proc/self/exe", nullptr, nullptr, const_cast<char**>(arguments), const_cast<char**>(variables.data()));
    if (failed != 0) throw Error(os_fault(failed, "start a rank"));
  }
  ~RankProcess() {
    send(SIGKILL);
    waitpid(pid_, nullptr, 0);
  }
  void send(int signal) const { kill(pid_, signal); }

 private:
  pid_t pid_ = -1;
};

std::string given_invitation() { return std::getenv("TEST_INVITATION"); }

TEST(RankProcess, DISABLED_Follower) {
  const auto comm = socket_follower(given_invitation(), quick_as(1));
  barrier(*comm, "together");
  comm->note("write __1_0.distcp");
  barrier(*comm, "noted");
  for (;;) pause();
}

TEST(RankProcess, DISABLED_Leader) {
  const std::string invitation = given_invitation();
  const SocketLeader leader =
      socket_leader({.port = port_of(invitation), .token = invitation.substr(invitation.find(' ') + 1)}, quick_as(0));
  barrier(*leader.comm, "together");
  leader.comm->note("publish");
  barrier(*leader.comm, "noted");
  for (;;) pause();
}

// What the other side of a two-rank job throws once `signal` has struck the rank of its own process.
Fault fault_after(int signal, RankProcess& other, Comm& comm) {
  barrier(comm, "together");
  barrier(comm, "noted");
  std::this_thread::sleep_for(Milliseconds(200));  // for a beat that carries the note
  other.send(signal);
  return capture([&] { barrier(comm, "save"); }).fault;
}

TEST(SocketComm, AKilledFollowerIsLostAndNamed) {
  const SocketLeader leader = socket_leader({}, quick);
  RankProcess follower("Follower", leader.invitation);
  const Fault fault = fault_after(SIGKILL, follower, *leader.comm);
  EXPECT_EQ(fault.code, Code::peer_lost);
  EXPECT_THAT(fault.what, testing::AllOf(HasSubstr("rank 1"), HasSubstr("connection closed"), HasSubstr("write __1_0.distcp")));
}

TEST(SocketComm, AStoppedFollowerIsLostWhenItsBeatsStop) {
  const SocketLeader leader = socket_leader({}, strict_as(0));
  RankProcess follower("Follower", leader.invitation);
  const Fault fault = fault_after(SIGSTOP, follower, *leader.comm);
  EXPECT_EQ(fault.code, Code::peer_lost);
  EXPECT_THAT(fault.what, testing::AllOf(HasSubstr("rank 1"), HasSubstr("silent"), HasSubstr("write __1_0.distcp")));
}

// An invitation to a port that was free a moment ago.
std::string agreed_invitation() { return socket_leader({}, quick).invitation; }

TEST(SocketComm, AKilledLeaderIsLostAndNamed) {
  const std::string invitation = agreed_invitation();
  RankProcess leader("Leader", invitation);
  const auto comm = socket_follower(invitation, quick_as(1));
  const Fault fault = fault_after(SIGKILL, leader, *comm);
  EXPECT_EQ(fault.code, Code::peer_lost);
  EXPECT_THAT(fault.what, testing::AllOf(HasSubstr("rank 0"), HasSubstr("connection closed"), HasSubstr("publish")));
}

TEST(SocketComm, AStoppedLeaderIsLostWhenItsBeatsStop) {
  const std::string invitation = agreed_invitation();
  RankProcess leader("Leader", invitation);
  const auto comm = socket_follower(invitation, strict_as(1));
  const Fault fault = fault_after(SIGSTOP, leader, *comm);
  EXPECT_EQ(fault.code, Code::peer_lost);
  EXPECT_THAT(fault.what, testing::AllOf(HasSubstr("rank 0"), HasSubstr("silent"), HasSubstr("publish")));
}

TEST(SocketComm, AFollowerMayComeBeforeTheLeader) {
  const std::string invitation = agreed_invitation();
  Outcome<std::vector<std::string>> seen;
  std::thread early([&] {
    seen = capture([&] {
      const auto follower = socket_follower(invitation, quick_as(1));
      return texts_of(all_gather(*follower, "names", bytes_from("follower")));
    });
  });
  std::this_thread::sleep_for(Milliseconds(200));
  const SocketSeat seat{.port = port_of(invitation), .token = invitation.substr(invitation.find(' ') + 1)};
  EXPECT_EQ(socket_invitation(seat), invitation);
  const SocketLeader leader = socket_leader(seat, quick);
  all_gather(*leader.comm, "names", bytes_from("leader"));
  early.join();
  EXPECT_THAT(seen.value.value(), testing::ElementsAre("leader", "follower"));
}

TEST(SocketComm, ARankThatNeverComesIsATimeoutThatSaysIt) {
  SocketOptions options = quick;
  options.deadline = Milliseconds(300);
  const SocketLeader leader = socket_leader({}, options);
  const Fault fault = capture([&] { barrier(*leader.comm, "start"); }).fault;
  EXPECT_EQ(fault.code, Code::timeout);
  EXPECT_THAT(fault.what, HasSubstr("rank 1 was last seen at: starting"));
}

TEST(SocketComm, AnotherJobsTokenDoesNotOpenTheDoorAndDisturbsNobody) {
  const SocketLeader leader = socket_leader({}, quick);
  const std::string door = leader.invitation.substr(0, leader.invitation.find(' ') + 1);
  const std::string token = leader.invitation.substr(door.size());
  SocketOptions hasty = quick_as(1);
  hasty.deadline = Milliseconds(500);
  const auto refused = capture([&] { return socket_follower(door + new_socket_token(), hasty); });
  EXPECT_EQ(refused.fault.code, Code::timeout);
  // Whoever learned the leader's half alone is told off by name.
  const auto half = capture([&] { return socket_follower(door + token.substr(0, 64) + new_socket_token().substr(64), quick_as(1)); });
  EXPECT_EQ(half.fault.code, Code::mismatch);
  EXPECT_THAT(half.fault.what, HasSubstr("did not let this rank in"));
  const auto follower = socket_follower(leader.invitation, quick_as(1));
  std::thread other([&] { barrier(*follower, "well"); });
  EXPECT_TRUE(capture([&] { barrier(*leader.comm, "well"); }));
  other.join();
}

TEST(SocketComm, NoiseAtTheDoorDisturbsNobody) {
  const SocketLeader leader = socket_leader({}, quick);
  const auto follower = socket_follower(leader.invitation, quick_as(1));
  std::vector<int> strangers;
  for (int k = 0; k < 20; ++k) {
    const int stranger = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in address{.sin_family = AF_INET, .sin_port = htons(static_cast<uint16_t>(port_of(leader.invitation)))};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    ASSERT_EQ(connect(stranger, reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
    // ZeroMQ's greeting with no security, then a frame that says it is huge; or plain noise; or silence.
    std::string words = k % 3 == 0 ? std::string("\xff\0\0\0\0\0\0\0\1\x7f\3\0NULL", 16) + std::string(48, '\0') +
                                         std::string("\2\x7f\xff\xff\xff\xff\xff\xff\xff", 9)
                                   : "GET / HTTP/1.1\r\n\r\n";
    if (k % 3 == 2) words.clear();
    EXPECT_EQ(::send(stranger, words.data(), words.size(), MSG_NOSIGNAL), static_cast<ssize_t>(words.size()));
    strangers.push_back(stranger);
  }
  std::thread other([&] { barrier(*follower, "well"); });
  EXPECT_TRUE(capture([&] { barrier(*leader.comm, "well"); }));
  other.join();
  for (const int stranger : strangers) close(stranger);
}

TEST(SocketComm, ARankThatIsTakenOrOfAnotherSizeIsRefused) {
  const SocketLeader leader = socket_leader({}, quick);
  const auto first = socket_follower(leader.invitation, quick_as(1));
  const auto second = capture([&] { return socket_follower(leader.invitation, quick_as(1)); });
  EXPECT_EQ(second.fault.code, Code::mismatch);
  EXPECT_THAT(second.fault.what, HasSubstr("rank 1 already"));
  SocketOptions larger = quick_as(2);
  larger.size = 3;
  const auto third = capture([&] { return socket_follower(leader.invitation, larger); });
  EXPECT_EQ(third.fault.code, Code::mismatch);
  EXPECT_THAT(third.fault.what, HasSubstr("2 ranks"));
}

TEST(SocketComm, AMessageAboveTheLimitFailsOnEveryRank) {
  for (const int who : {0, 1}) {
    SocketOptions small = quick;
    small.message_limit_bytes = 1000;
    SocketLeader leader = socket_leader({}, small);
    Comms comms;
    comms.push_back(std::move(leader.comm));
    small.rank = 1;
    comms.push_back(socket_follower(leader.invitation, small));
    const auto outcomes = run_as_ranks(comms, [&](Comm& comm) {
      comm.round("too much", Bytes(comm.rank() == 1 && who == 1 ? 1001 : 10),
                 [&](std::vector<Bytes> all) { return std::vector<Bytes>(all.size(), Bytes(who == 0 ? 1001 : 10)); });
    });
    for (const auto& outcome : outcomes) {
      EXPECT_EQ(outcome.fault.code, Code::limit) << describe(outcome.fault);
      EXPECT_THAT(outcome.fault.what, testing::AllOf(HasSubstr("'too much'"), HasSubstr("1001")));
    }
  }
}

TEST(SocketComm, OptionsThatMakeNoSenseAreRefused) {
  EXPECT_THROW(socket_leader({}, {.rank = 1, .size = 2}), Error);
  EXPECT_THROW(socket_leader({}, {.rank = 0, .size = 0}), Error);
  EXPECT_THROW(socket_leader({.token = "short"}, {.rank = 0, .size = 1}), Error);
  EXPECT_THROW(socket_leader({.token = std::string(128, 'x')}, {.rank = 0, .size = 1}), Error);
  EXPECT_THROW(socket_leader({.address = "no.such.host.invalid"}, {.rank = 0, .size = 1}), Error);
  EXPECT_THROW(socket_follower("not an invitation", {.rank = 1, .size = 2}), Error);
  EXPECT_THROW(socket_follower("tcp://127.0.0.1:1 " + new_socket_token(), {.rank = 0, .size = 2}), Error);
}

TEST(SocketComm, APortThatIsTakenIsAnErrorThatNamesIt) {
  const SocketLeader leader = socket_leader({}, quick);
  const int port = port_of(leader.invitation);
  const auto second = capture([&] { return socket_leader({.port = port}, quick).invitation; });
  EXPECT_EQ(second.fault.code, Code::io);
  EXPECT_THAT(second.fault.what, HasSubstr(std::to_string(port)));
}

}  // namespace
}  // namespace tessera
