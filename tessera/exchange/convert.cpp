#include "tessera/exchange/convert.h"

#include <algorithm>
#include <chrono>

#include "tessera/checkpoint/place.h"
#include "tessera/exchange/target.h"

namespace tessera {
namespace {

constexpr int64_t least_memory_bytes = int64_t{1} << 20;
constexpr int64_t most_piece_bytes = int64_t{16} << 20;  // larger ones are no faster
constexpr int most_ranks = 100'000;

void check(const ConvertOptions& options) {
  const auto refuse = [](const char* what) { throw Error({.code = Code::invalid_argument, .what = what}); };
  if (options.ranks < 1 || options.ranks > most_ranks) refuse("a number of ranks that cannot be");
  if (options.memory_bytes < least_memory_bytes) refuse("less memory than 1 MiB");
  if (options.file_bytes < 1) refuse("files of no size");
  for (const CastRule& rule : options.casts) {
    if (!is_plain_float(rule.to)) refuse("tensors are converted to float64, float32, float16 and bfloat16 only");
  }
}

}  // namespace

Format format_named(const std::string& path) {
  const auto ends = [&](const char* ending) { return path.ends_with(ending); };
  if (ends(".safetensors")) return Format::safetensors;
  if (ends(".pt") || ends(".pth") || ends(".bin")) return Format::torch_save;
  return Format::dcp;
}

ConvertReport convert(const Checkpoint& from, const std::string& to, const ConvertOptions& options) {
  const Place place = place_of(to);
  LocalStorage storage(place.parent);
  ConvertOptions own = options;
  own.to = options.to.value_or(format_named(to));  // as it was named, not as a link resolved
  return convert(from, storage, place.name, own);
}

ConvertReport convert(const Checkpoint& from, Storage& storage, const Path& target, const ConvertOptions& options) {
  const auto begin = std::chrono::steady_clock::now();
  check(options);
  Selection selection(from, options.filter, options.casts, options.tensors_only);
  selection.set_piece_bytes(std::min(most_piece_bytes, options.memory_bytes / 4));
  const int64_t total = selection.total_bytes();
  int64_t done = 0;
  if (options.progress) {
    selection.on_progress([&](int64_t bytes) { options.progress(done += bytes, total); });
  }
  const Format format = options.to.value_or(format_named(target));
  switch (format) {
    case Format::safetensors: write_safetensors(selection, storage, target, options); break;
    case Format::torch_save: write_torch(selection, storage, target, options); break;
    default: write_dcp(selection, storage, target, options);
  }
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
  return {format,
          static_cast<int64_t>(selection.tensors().size()),
          static_cast<int64_t>(selection.objects().size()),
          total,
          selection.count().unverified_bytes,
          took.count()};
}

}  // namespace tessera
