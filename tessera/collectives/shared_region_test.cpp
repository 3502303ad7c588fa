#include "tessera/collectives/shared_region.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <filesystem>
#include <set>

#include "tessera/comm/thread_comm.h"
#include "tests/support/run_as_ranks.h"

namespace tessera {
namespace {

using testing::HasSubstr;

constexpr size_t size_bytes = 1 << 16;
constexpr size_t secret_at = 64;  // in a rank's card, behind the name

// `meddle` sees what each rank is told in each of the two rounds.
std::vector<Outcome<Done>> meet(int ranks, const std::function<void(int rank, int round, std::vector<Bytes>& told)>& meddle,
                                const std::function<void(int rank, SharedRegion& region)>& then) {
  Comms comms = thread_comms(ranks);
  return run_as_ranks(comms, [&](Comm& comm) {
    int round = 0;
    const auto tell_all = [&](Bytes mine) {
      auto told = all_gather(comm, "meet", std::move(mine));
      if (meddle) meddle(comm.rank(), round, told);
      ++round;
      return told;
    };
    SharedRegion region = meet_in_memory(comm.rank(), 0, size_bytes, tell_all);
    then(comm.rank(), region);
    barrier(comm, "met");
  });
}

std::set<std::string> names_in_shm() {
  std::set<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator("/dev/shm")) names.insert(entry.path());
  return names;
}

TEST(SharedRegion, IsTheSameMemoryOnAllRanksAndHasNoName) {
  const auto before = names_in_shm();
  for (const auto& outcome : meet(3, {}, [&](int rank, SharedRegion& region) {
         EXPECT_EQ(region.size(), size_bytes);
         EXPECT_EQ(region.data()[100], std::byte{0});
         region.data()[rank] = std::byte{7};
         EXPECT_EQ(names_in_shm(), before);
       })) {
    EXPECT_TRUE(outcome) << describe(outcome.fault);
  }
}

TEST(SharedRegion, WhoCannotHaveItIsNamedOnAllRanks) {
  const auto outcomes = meet(
      3,
      [](int rank, int round, std::vector<Bytes>& told) {
        if (rank == 2 && round == 0) told[0][0] = std::byte{'?'};  // a name where nobody listens
      },
      [](int, SharedRegion&) { FAIL() << "one has none"; });
  for (const auto& outcome : outcomes) {
    EXPECT_EQ(outcome.fault.code, Code::unsupported);
    EXPECT_THAT(outcome.fault.what, HasSubstr("rank 2 cannot share memory: "));
  }
}

TEST(SharedRegion, IsNotGivenToWhoDoesNotKnowTheSecret) {
  const auto outcomes = meet(
      2,
      [](int rank, int round, std::vector<Bytes>& told) {
        if (rank == 1 && round == 0) told[0][secret_at] ^= std::byte{1};
      },
      [](int, SharedRegion&) { FAIL() << "one has none"; });
  for (const auto& outcome : outcomes) EXPECT_THAT(outcome.fault.what, HasSubstr("rank 1 cannot share memory: "));
}

TEST(SharedRegion, AStrangerThatConnectsAndSaysNothingKeepsNobodyOut) {
  int stranger = -1;
  const auto outcomes = meet(
      2,
      [&](int rank, int round, std::vector<Bytes>& told) {
        if (rank != 1 || round != 0) return;
        sockaddr_un address{};
        address.sun_family = AF_UNIX;
        const std::string name(reinterpret_cast<const char*>(told[0].data()));
        std::copy(name.begin(), name.end(), address.sun_path + 1);
        stranger = ::socket(AF_UNIX, SOCK_STREAM, 0);
        const auto length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + name.size());
        EXPECT_EQ(::connect(stranger, reinterpret_cast<const sockaddr*>(&address), length), 0);
      },
      [](int, SharedRegion& region) { EXPECT_EQ(region.size(), size_bytes); });
  for (const auto& outcome : outcomes) EXPECT_TRUE(outcome) << describe(outcome.fault);
  ::close(stranger);
}

TEST(MeetingGround, IsTheSameForProcessesOfOneHost) {
  EXPECT_FALSE(meeting_ground().empty());
  EXPECT_EQ(meeting_ground(), meeting_ground());
}

}  // namespace
}  // namespace tessera
