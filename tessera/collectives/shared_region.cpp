#include "tessera/collectives/shared_region.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <memory>
#include <thread>
#include <utility>

#include "tessera/base/error.h"

namespace tessera {
namespace {

constexpr int patience_s = 10;      // for the other side of a connection, which has nothing else to do
constexpr int stranger_s = 1;       // for a process that connects and says nothing
constexpr int seals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;
constexpr size_t secret_bytes = 32;
using Secret = std::array<unsigned char, secret_bytes>;

[[noreturn]] void fail(const char* what) { throw Error(os_fault(errno, std::string("shared memory: ") + what)); }

class Descriptor {
 public:
  explicit Descriptor(int number = -1) : number_(number) {}
  Descriptor(Descriptor&& other) noexcept : number_(std::exchange(other.number_, -1)) {}
  Descriptor& operator=(Descriptor&& other) noexcept {
    std::swap(number_, other.number_);
    return *this;
  }
  ~Descriptor() {
    if (number_ >= 0) ::close(number_);
  }
  int number() const { return number_; }

 private:
  int number_;
};

Secret random_secret() {
  Secret secret;
  if (::getrandom(secret.data(), secret.size(), 0) != static_cast<ssize_t>(secret.size())) fail("get random bytes");
  return secret;
}

Descriptor make_memory(size_t size_bytes) {
  Descriptor made(::memfd_create("tessera", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (made.number() < 0) fail("memfd_create");
  if (::ftruncate(made.number(), static_cast<off_t>(size_bytes)) != 0) fail("size a memfd");
  if (::fcntl(made.number(), F_ADD_SEALS, seals) != 0) fail("seal a memfd");
  return made;
}

void check_memory(const Descriptor& given, size_t size_bytes) {
  struct stat status{};
  if (::fstat(given.number(), &status) != 0) fail("look at the memfd");
  const int sealed = ::fcntl(given.number(), F_GET_SEALS);
  if (static_cast<size_t>(status.st_size) != size_bytes || sealed < 0 || (sealed & seals) != seals)
    throw Error({.code = Code::mismatch, .what = "shared memory: the leader's memfd is of another size or not sealed"});
}

// An address without a file: the name of a socket in the abstract namespace is gone with it.
struct Address {
  sockaddr_un address{};
  socklen_t size = 0;
};
Address address_of(const std::string& name) {
  Address made;
  made.address.sun_family = AF_UNIX;
  std::copy(name.begin(), name.end(), made.address.sun_path + 1);  // the leading zero stays
  made.size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + name.size());
  return made;
}

std::string name_of(const Secret& random) {
  std::string name = "tessera-";
  for (size_t i = 0; i < 16; ++i) {
    name += "0123456789abcdef"[random[i] >> 4];
    name += "0123456789abcdef"[random[i] & 15];
  }
  return name;
}

Descriptor new_socket(int patience) {
  Descriptor made(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (made.number() < 0) fail("make a Unix socket");
  const timeval limit{.tv_sec = patience, .tv_usec = 0};
  for (const int which : {SO_RCVTIMEO, SO_SNDTIMEO}) ::setsockopt(made.number(), SOL_SOCKET, which, &limit, sizeof limit);
  return made;
}

bool same_user(int connection) {
  ucred peer{};
  socklen_t size = sizeof peer;
  return ::getsockopt(connection, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0 && peer.uid == ::geteuid();
}

bool equal_in_constant_time(const Secret& a, const Secret& b) {
  unsigned char differ = 0;
  for (size_t i = 0; i < a.size(); ++i) differ = static_cast<unsigned char>(differ | (a[i] ^ b[i]));
  return differ == 0;
}

void send_descriptor(int connection, int descriptor) {
  char word = 'm';
  iovec payload{&word, 1};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof descriptor)] = {};
  msghdr message{};
  message.msg_iov = &payload;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  cmsghdr* header = CMSG_FIRSTHDR(&message);
  header->cmsg_level = SOL_SOCKET;
  header->cmsg_type = SCM_RIGHTS;
  header->cmsg_len = CMSG_LEN(sizeof descriptor);
  std::memcpy(CMSG_DATA(header), &descriptor, sizeof descriptor);
  ::sendmsg(connection, &message, MSG_NOSIGNAL);  // who did not get it says so
}

Descriptor receive_descriptor(int connection) {
  char word = 0;
  iovec payload{&word, 1};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
  msghdr message{};
  message.msg_iov = &payload;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  const ssize_t count = ::recvmsg(connection, &message, MSG_CMSG_CLOEXEC);
  if (count < 0) fail("receive the memfd");
  const cmsghdr* header = CMSG_FIRSTHDR(&message);
  if (count == 0 || !header || header->cmsg_type != SCM_RIGHTS || header->cmsg_len != CMSG_LEN(sizeof(int)))
    throw Error({.code = Code::io, .what = "shared memory: the leader handed over no memfd"});
  int descriptor = -1;
  std::memcpy(&descriptor, CMSG_DATA(header), sizeof descriptor);
  return Descriptor(descriptor);
}

// The leader's side: hands its memory to whoever comes with the secret, from a thread of its own until it is told to stop.
class Handout {
 public:
  Handout(int memory, const Secret& secret)
      : memory_(memory),
        secret_(secret),
        name_(name_of(random_secret())),
        listener_(new_socket(patience_s)),
        stop_(::eventfd(0, EFD_CLOEXEC)) {
    const Address address = address_of(name_);
    if (stop_.number() < 0) fail("make an eventfd");
    if (::bind(listener_.number(), reinterpret_cast<const sockaddr*>(&address.address), address.size) != 0) fail("bind a Unix socket");
    if (::listen(listener_.number(), SOMAXCONN) != 0) fail("listen at a Unix socket");
    thread_ = std::thread([this] { serve(); });
  }
  ~Handout() {
    const uint64_t one = 1;
    if (::write(stop_.number(), &one, sizeof one) == sizeof one) thread_.join();
    else std::abort();  // an eventfd takes a one
  }
  Handout(const Handout&) = delete;
  Handout& operator=(const Handout&) = delete;
  const std::string& name() const { return name_; }

 private:
  void serve() {
    for (;;) {
      pollfd waiting[2] = {{listener_.number(), POLLIN, 0}, {stop_.number(), POLLIN, 0}};
      if (::poll(waiting, 2, -1) < 0 && errno != EINTR) return;
      if (waiting[1].revents != 0) return;
      if (waiting[0].revents == 0) continue;
      const Descriptor connection(::accept4(listener_.number(), nullptr, nullptr, SOCK_CLOEXEC));
      if (connection.number() >= 0 && same_user(connection.number()) && knows_the_secret(connection.number()))
        send_descriptor(connection.number(), memory_);
    }
  }

  bool knows_the_secret(int connection) const {
    const timeval limit{.tv_sec = stranger_s, .tv_usec = 0};
    ::setsockopt(connection, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    Secret said{};
    return ::recv(connection, said.data(), said.size(), MSG_WAITALL) == static_cast<ssize_t>(said.size()) &&
           equal_in_constant_time(said, secret_);
  }

  const int memory_;
  const Secret secret_;
  const std::string name_;
  const Descriptor listener_;
  const Descriptor stop_;
  std::thread thread_;
};

Descriptor fetch(const std::string& name, const Secret& secret) {
  Descriptor connection = new_socket(patience_s);
  const Address address = address_of(name);
  if (::connect(connection.number(), reinterpret_cast<const sockaddr*>(&address.address), address.size) != 0) fail("connect to the leader");
  if (!same_user(connection.number())) throw Error({.code = Code::io, .what = "shared memory: another user listens in the leader's place"});
  if (::send(connection.number(), secret.data(), secret.size(), MSG_NOSIGNAL) != static_cast<ssize_t>(secret.size()))
    fail("tell the leader the secret");
  return receive_descriptor(connection.number());
}

// What a rank tells the others: how it went, or where to come. Of a fixed size.
struct Card {
  std::array<char, 64> name = {};
  Secret secret = {};
  std::array<char, 192> failed = {};
};

Bytes bytes_of(const Card& card) {
  const auto* first = reinterpret_cast<const std::byte*>(&card);
  return {first, first + sizeof card};
}

Card card_in(const Bytes& bytes) {
  Card card;
  if (bytes.size() != sizeof card) throw Error({.code = Code::corrupt, .what = "shared memory: a rank's card is of the wrong size"});
  std::memcpy(&card, bytes.data(), sizeof card);
  card.name.back() = card.failed.back() = '\0';
  return card;
}

void write_failure(Card& card, const Fault& fault) {
  const std::string text = describe(fault);
  std::copy_n(text.begin(), std::min(text.size(), card.failed.size() - 1), card.failed.begin());
}

// Everyone's card; throws alike everywhere if one could not.
std::vector<Card> tell_cards(const Card& mine, const TellAll& tell_all) {
  std::vector<Card> cards;
  for (const Bytes& bytes : tell_all(bytes_of(mine))) cards.push_back(card_in(bytes));
  for (size_t r = 0; r < cards.size(); ++r) {
    if (cards[r].failed[0] != '\0')
      throw Error({.code = Code::unsupported, .what = "rank " + std::to_string(r) + " cannot share memory: " + cards[r].failed.data()});
  }
  return cards;
}

}  // namespace

SharedRegion::SharedRegion(int descriptor, size_t size_bytes) {
  void* at = ::mmap(nullptr, size_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0);
  if (at == MAP_FAILED) fail("map the memfd");
  data_ = static_cast<std::byte*>(at);
  size_ = size_bytes;
  ::madvise(at, size_bytes, MADV_HUGEPAGE);  // where the system grants them to shared memory
  ::madvise(at, size_bytes, MADV_DONTFORK);
}
SharedRegion::SharedRegion(SharedRegion&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}
SharedRegion& SharedRegion::operator=(SharedRegion&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}
SharedRegion::~SharedRegion() {
  if (data_) ::munmap(data_, size_);
}

SharedRegion meet_in_memory(int rank, int leader, size_t size_bytes, const TellAll& tell_all) {
  Descriptor memory;
  std::unique_ptr<Handout> handout;
  SharedRegion region;
  Card mine;
  if (rank == leader) {
    const auto made = capture([&] {
      mine.secret = random_secret();
      memory = make_memory(size_bytes);
      region = SharedRegion(memory.number(), size_bytes);
      handout = std::make_unique<Handout>(memory.number(), mine.secret);
      std::copy(handout->name().begin(), handout->name().end(), mine.name.begin());
    });
    if (!made) write_failure(mine, made.fault);
  }
  const Card leaders = tell_cards(mine, tell_all).at(static_cast<size_t>(leader));
  Card result;
  if (rank != leader) {
    const auto fetched = capture([&] {
      memory = fetch(leaders.name.data(), leaders.secret);
      check_memory(memory, size_bytes);
      region = SharedRegion(memory.number(), size_bytes);
    });
    if (!fetched) write_failure(result, fetched.fault);
  }
  tell_cards(result, tell_all);  // the leader hands out until all have it
  return region;
}

std::string meeting_ground() {
  std::string boot;
  std::getline(std::ifstream("/proc/sys/kernel/random/boot_id"), boot);
  std::error_code missing;
  const std::string network = std::filesystem::read_symlink("/proc/self/ns/net", missing).string();
  if (boot.empty() || missing) return {};
  return boot + " " + network + " " + std::to_string(::geteuid());
}

}  // namespace tessera
