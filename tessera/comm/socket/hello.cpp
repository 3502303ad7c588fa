#include "tessera/comm/socket/hello.h"

namespace tessera {
namespace {

constexpr std::string_view protocol = "tessera comm 2";

}  // namespace

Message hello_of(int rank, int size) {
  return {.kind = Kind::hello, .first = static_cast<uint64_t>(rank), .second = static_cast<uint64_t>(size), .text = std::string(protocol)};
}

int rank_of_hello(const Message& hello, int size) {
  const auto refuse = [](std::string what) { return Error({.code = Code::mismatch, .what = std::move(what)}); };
  if (hello.text != protocol) throw refuse("the leader speaks '" + std::string(protocol) + "', this rank '" + hello.text + "'");
  if (hello.second != static_cast<uint64_t>(size)) {
    throw refuse("the leader's job has " + std::to_string(size) + " ranks, this rank's " + std::to_string(hello.second));
  }
  if (hello.first < 1 || hello.first >= hello.second) {
    throw refuse("rank " + std::to_string(hello.first) + " cannot follow in a job of " + std::to_string(size));
  }
  return static_cast<int>(hello.first);
}

}  // namespace tessera
