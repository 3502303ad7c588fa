// read_rows CHECKPOINT KEY BEGIN END: reads these rows of a tensor and prints how many bytes they have. For counting what that costs.
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "tessera/checkpoint/checkpoint.h"

int main(int argc, char** argv) {
  using namespace tessera;
  if (argc != 5) return 2;
  try {
    const Checkpoint checkpoint = Checkpoint::open(argv[1]);
    const TensorEntry& tensor = checkpoint.tensor(argv[2]);
    Box rows = whole(tensor.sizes);
    rows.offsets.at(0) = std::atoll(argv[3]);
    rows.sizes[0] = std::atoll(argv[4]) - rows.offsets[0];
    std::vector<std::byte> bytes(static_cast<size_t>(volume(rows) * element_bytes(tensor.dtype)));
    checkpoint.read(argv[2], rows, dense_view(bytes.data(), tensor.dtype, rows.sizes));
    std::printf("%zu\n", bytes.size());
    return 0;
  } catch (const Error& error) {
    std::fprintf(stderr, "read_rows: error: %s\n", describe(error.fault()).c_str());
    return exit_code(error.code());
  }
}
