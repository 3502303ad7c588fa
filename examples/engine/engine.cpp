// engine CHECKPOINT [--ranks N]: an inference engine in miniature, without LibTorch. Each of N threads plays a tensor-parallel rank: it
// reads only its slice of each weight of a two-layer perceptron out of the checkpoint, computes with it, and the partial results are
// summed. Prints the output and the bytes that each rank read.
//   up.weight [hidden, in], up.bias [hidden]       cut by rows: a rank computes some of the hidden units
//   down.weight [out, hidden]                      cut by columns: a rank's part of every output
// The slices are any boxes: sizes that N does not divide are no special case, and however the checkpoint was sharded does not matter.
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <thread>
#include <vector>

#include "tessera/checkpoint/checkpoint.h"

namespace {

using tessera::Box;
using tessera::Checkpoint;
using Floats = std::vector<float>;

Floats read(const Checkpoint& checkpoint, const char* key, const Box& box, int64_t& read_bytes) {
  Floats values(static_cast<size_t>(tessera::volume(box)));
  tessera::TensorReader reader = checkpoint.reader(key);
  reader.read(box, tessera::dense_view(reinterpret_cast<std::byte*>(values.data()), tessera::DType::float32, box.sizes));
  read_bytes += reader.count().read_bytes;
  return values;
}

struct Share {
  Floats partial;  // of every output
  int64_t read_bytes = 0;
};

Share compute(const Checkpoint& checkpoint, const Floats& input, int rank, int ranks) {
  const auto& up = checkpoint.tensor("up.weight").sizes;
  const int64_t outputs = checkpoint.tensor("down.weight").sizes.at(0);
  const int64_t each = (up.at(0) + ranks - 1) / ranks;
  const int64_t begin = std::min(up[0], each * rank);
  const int64_t mine = std::min(each, up[0] - begin);
  Share share{Floats(static_cast<size_t>(outputs), 0.0f), 0};
  const Floats weight = read(checkpoint, "up.weight", {{begin, 0}, {mine, up[1]}}, share.read_bytes);
  const Floats bias = read(checkpoint, "up.bias", {{begin}, {mine}}, share.read_bytes);
  const Floats down = read(checkpoint, "down.weight", {{0, begin}, {outputs, mine}}, share.read_bytes);
  for (int64_t h = 0; h < mine; ++h) {
    float sum = bias[static_cast<size_t>(h)];
    for (int64_t i = 0; i < up[1]; ++i) sum += weight[static_cast<size_t>(h * up[1] + i)] * input[static_cast<size_t>(i)];
    const float active = std::fmax(sum, 0.0f);
    for (int64_t o = 0; o < outputs; ++o) share.partial[static_cast<size_t>(o)] += down[static_cast<size_t>(o * mine + h)] * active;
  }
  return share;
}

int run(const char* path, int ranks) {
  const Checkpoint checkpoint = Checkpoint::open(path);
  Floats input(static_cast<size_t>(checkpoint.tensor("up.weight").sizes.at(1)));
  for (size_t i = 0; i < input.size(); ++i) input[i] = std::sin(static_cast<float>(i));
  std::vector<Share> shares(static_cast<size_t>(ranks));
  std::vector<tessera::Outcome<tessera::Done>> ends(shares.size());
  {
    std::vector<std::jthread> threads;
    for (int rank = 0; rank < ranks; ++rank) {
      const auto r = static_cast<size_t>(rank);
      threads.emplace_back([&, r, rank] { ends[r] = tessera::capture([&] { shares[r] = compute(checkpoint, input, rank, ranks); }); });
    }
  }
  for (auto& end : ends) end.or_throw();
  Floats output = shares[0].partial;
  for (size_t r = 1; r < shares.size(); ++r) {
    for (size_t o = 0; o < output.size(); ++o) output[o] += shares[r].partial[o];
  }
  for (const float value : output) std::printf("%.7g\n", static_cast<double>(value));
  for (const Share& share : shares) std::printf("read %lld bytes\n", static_cast<long long>(share.read_bytes));
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  const bool asked = argc == 4 && std::strcmp(argv[2], "--ranks") == 0;
  const int ranks = asked ? std::atoi(argv[3]) : 3;
  if ((argc != 2 && !asked) || ranks < 1 || ranks > 64) {
    std::fprintf(stderr, "usage: engine CHECKPOINT [--ranks N]\n");
    return 2;
  }
  try {
    return run(argv[1], ranks);
  } catch (const tessera::Error& error) {
    std::fprintf(stderr, "engine: error: %s\n", tessera::describe(error.fault()).c_str());
    return tessera::exit_code(error.code());
  }
}
