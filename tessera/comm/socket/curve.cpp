#include "tessera/comm/socket/curve.h"

#include <array>
#include <charconv>
#include <vector>

#include "tessera/base/error.h"

namespace tessera {
namespace {

constexpr size_t key_bytes = 32;
constexpr size_t key_z85 = 40;
using Z85 = std::array<char, key_z85 + 1>;

void expect_curve() {
  if (zmq_has("curve") == 1) return;
  throw Error({.code = Code::unsupported,
               .what = "this libzmq was built without CURVE, so ranks could not be told from strangers",
               .hint = "install a libzmq that is built with libsodium"});
}

std::string from_hex(std::string_view digits) {
  std::string bytes;
  for (size_t i = 0; i < digits.size(); i += 2) {
    unsigned char byte = 0;
    const auto [end, failed] = std::from_chars(digits.data() + i, digits.data() + i + 2, byte, 16);
    if (failed != std::errc() || end != digits.data() + i + 2) {
      throw Error({.code = Code::invalid_argument, .what = "a job's token holds something that is no hexadecimal digit"});
    }
    bytes.push_back(static_cast<char>(byte));
  }
  return bytes;
}

std::string to_hex(std::string_view bytes) {
  constexpr std::string_view digits = "0123456789abcdef";
  std::string text;
  for (const char c : bytes) {
    const auto byte = static_cast<unsigned char>(c);
    text += {digits[byte >> 4], digits[byte & 15]};
  }
  return text;
}

std::string from_z85(const Z85& text) {
  std::string bytes(key_bytes, '\0');
  zmq_z85_decode(reinterpret_cast<uint8_t*>(bytes.data()), text.data());
  return bytes;
}

std::string public_of(const std::string& secret) {
  Z85 secret_text{};
  Z85 public_text{};
  zmq_z85_encode(secret_text.data(), reinterpret_cast<const uint8_t*>(secret.data()), key_bytes);
  if (zmq_curve_public(public_text.data(), secret_text.data()) != 0) throw Error(os_fault(zmq_errno(), "derive a CURVE key"));
  return from_z85(public_text);
}

std::string new_secret() {
  Z85 public_text{};
  Z85 secret_text{};
  if (zmq_curve_keypair(public_text.data(), secret_text.data()) != 0) throw Error(os_fault(zmq_errno(), "make a CURVE key"));
  return from_z85(secret_text);
}

}  // namespace

std::string new_token() {
  expect_curve();
  return to_hex(new_secret() + new_secret());
}

CurveKeys keys_of_token(const std::string& token) {
  expect_curve();
  if (token.size() != 4 * key_bytes) {
    throw Error({.code = Code::invalid_argument, .what = "a job's token has 128 hexadecimal digits, not " + std::to_string(token.size())});
  }
  const std::string secrets = from_hex(token);
  const std::string leader = secrets.substr(0, key_bytes);
  const std::string follower = secrets.substr(key_bytes);
  return {.leader_public = public_of(leader), .leader_secret = leader, .follower_public = public_of(follower), .follower_secret = follower};
}

void act_as_leader(zmq::socket_t& socket, const CurveKeys& keys) {
  socket.set(zmq::sockopt::curve_server, true);
  socket.set(zmq::sockopt::curve_secretkey, keys.leader_secret);
}

void act_as_follower(zmq::socket_t& socket, const CurveKeys& keys) {
  socket.set(zmq::sockopt::curve_serverkey, keys.leader_public);
  socket.set(zmq::sockopt::curve_publickey, keys.follower_public);
  socket.set(zmq::sockopt::curve_secretkey, keys.follower_secret);
}

// The protocol is ZAP 1.0: version, request id, domain, address, identity, mechanism, the newcomer's public key.
void answer_newcomers(zmq::socket_t& requests, const CurveKeys& keys) {
  for (;;) {
    std::vector<std::string> frames;
    zmq::message_t frame;
    do {
      if (!requests.recv(frame, zmq::recv_flags::dontwait)) return;
      frames.push_back(frame.to_string());
    } while (frame.more());
    const bool known = frames.size() == 7 && frames[5] == "CURVE" && frames[6] == keys.follower_public;
    const std::string id = frames.size() > 1 ? frames[1] : "";
    for (const std::string& part :
         {std::string("1.0"), id, std::string(known ? "200" : "400"), std::string(known ? "OK" : "not of this job"), std::string()}) {
      requests.send(zmq::buffer(part), zmq::send_flags::sndmore);
    }
    requests.send(zmq::message_t(), zmq::send_flags::none);
  }
}

}  // namespace tessera
