#include "tessera/plan/load_plan.h"

#include <algorithm>

#include "tessera/plan/description.h"

namespace tessera {
namespace {

// The kinds of number, as far as conversions go: how many bits of magnitude an integer has.
bool is_float(DType dtype) {
  return dtype == DType::float64 || dtype == DType::float32 || dtype == DType::float16 || dtype == DType::bfloat16;
}
int integer_bits(DType dtype) {  // 0 for what is no integer
  switch (dtype) {
    case DType::boolean: return 1;
    case DType::int8: return 7;
    case DType::uint8: return 8;
    case DType::int16: return 15;
    case DType::uint16: return 16;
    case DType::int32: return 31;
    case DType::uint32: return 32;
    case DType::int64: return 63;
    case DType::uint64: return 64;
    default: return 0;
  }
}
bool is_signed(DType dtype) { return dtype == DType::int8 || dtype == DType::int16 || dtype == DType::int32 || dtype == DType::int64; }

std::string a_few(const std::vector<std::string>& lines) {
  constexpr size_t shown = 5;
  std::string text;
  for (size_t i = 0; i < std::min(lines.size(), shown); ++i) text += (i ? ", " : "") + lines[i];
  if (lines.size() > shown) text += " and " + std::to_string(lines.size() - shown) + " more";
  return text;
}

// How many ranks saved `key` as a rank-local value.
int saved_ranks(const Manifest& manifest, const std::string& key) {
  int ranks = 0;
  while (manifest.entries.contains(rank_local_key(key, ranks))) ++ranks;
  return ranks;
}

// A place among the chunks, where those that begin at or before `offsets` are on its left and the others on its right, if they are in
// order; anywhere among them if they are not.
size_t first_after(const std::vector<Chunk>& chunks, const Sizes& offsets) {
  size_t first = 0;
  for (size_t count = chunks.size(); count > 0;) {
    const size_t half = count / 2;
    const bool left = chunks[first + half].box.offsets <= offsets;
    if (left) first += half + 1;
    count = left ? count - half - 1 : half;
  }
  return first;
}

// Just after the chunk that holds the corner `at`, if the chunks are in order and lie in bands: of those that begin at or before it in the
// first dimension those that begin last, among these the same in the second, and so on.
size_t just_after(const std::vector<Chunk>& chunks, Sizes at) {
  size_t after = first_after(chunks, at);
  for (size_t d = 0; d + 1 < at.size() && after > 0; ++d) {
    at[d] = chunks[after - 1].box.offsets[d];
    after = first_after(chunks, at);
  }
  return after;
}

class Matcher {
 public:
  Matcher(const Manifest& manifest, int rank, int size, const LoadOptions& options)
      : manifest_(manifest), rank_(rank), size_(size), options_(options) {}

  void add(const std::string& key, const Leaf& leaf) {
    if (const auto* local = std::get_if<RankLocal>(&leaf.is)) return add_local(key, *local);
    const auto found = manifest_.entries.find(key);
    if (found == manifest_.entries.end()) return add_missing(key);
    const auto* wanted = std::get_if<TensorLeaf>(&leaf.is);
    const auto* held = std::get_if<TensorEntry>(&found->second.is);
    if ((wanted != nullptr) != (held != nullptr)) {
      kinds_.push_back("'" + key + "' is " + (held ? "a tensor" : "an object") + " in the checkpoint and " +
                       (wanted ? "a tensor" : "an object") + " here");
    } else if (wanted) {
      add_tensor(key, *wanted, *held);
    } else {
      match_.objects.push_back({key, key});
    }
  }

  Match finish() {
    const auto refuse = [](Code code, const std::string& what, const std::vector<std::string>& lines, const char* hint) {
      if (!lines.empty()) throw Error({.code = code, .what = what + a_few(lines), .hint = hint});
    };
    refuse(Code::mismatch, "", kinds_, "");
    refuse(Code::not_found, "keys missing in the checkpoint: ", missing_, kind_hint());
    refuse(Code::mismatch, "shapes differ: ", shapes_, "allow_shape leaves such tensors as they are");
    refuse(Code::mismatch, "dtypes differ: ", dtypes_, "allow_cast converts where nothing but precision can be lost");
    refuse(Code::mismatch, "saved by another number of ranks: ", worlds_, "load with as many ranks, or let the value start afresh");
    return std::move(match_);
  }

 private:
  void add_missing(const std::string& key) {
    match_.missing.push_back(key);
    if (!options_.allow_missing) missing_.push_back("'" + key + "'");
  }

  void add_tensor(const std::string& key, const TensorLeaf& wanted, const TensorEntry& held) {
    if (wanted.sizes != held.sizes) {
      match_.reshaped.push_back(key);
      if (!options_.allow_shape)
        shapes_.push_back("'" + key + "' has " + to_string(held.sizes) + " in the checkpoint and " + to_string(wanted.sizes) + " here");
      return;
    }
    if (wanted.dtype != held.dtype) {
      match_.cast.push_back(key);
      const bool allowed =
          options_.allow_cast || std::ranges::any_of(options_.cast_keys, [&](const std::string& pattern) { return matches(pattern, key); });
      if (!allowed || !can_cast(held.dtype, wanted.dtype)) {
        dtypes_.push_back("'" + key + "' is " + std::string(name(held.dtype)) + " in the checkpoint and " +
                          std::string(name(wanted.dtype)) + " here");
      }
    }
    match_.tensors.push_back({key, key});
  }

  void add_local(const std::string& key, const RankLocal& local) {
    const int ranks = saved_ranks(manifest_, key);
    if (ranks == size_) match_.objects.push_back({key, rank_local_key(key, rank_)});
    else if (local.may_reset && ranks > 0) match_.reset.push_back(key);
    else if (ranks == 0) add_missing(key);
    else worlds_.push_back("'" + key + "' by " + std::to_string(ranks) + ", here are " + std::to_string(size_));
  }

  // A state of another kind misses all keys at once; say so rather than leave the reader with names.
  const char* kind_hint() const {
    const auto flat = [](const std::string& key) { return key.find("_flat_param") != std::string::npos; };
    const bool local_file = std::ranges::any_of(manifest_.entries, [&](const auto& entry) { return flat(entry.first); });
    const bool local_state = std::ranges::any_of(match_.missing, flat);
    if (local_file && !local_state) return "the checkpoint holds flat parameters (kind local); kinds are not converted into one another";
    if (!local_file && local_state) return "the checkpoint holds named parameters (kind sharded or full), the state flat ones (kind local)";
    return "allow_missing leaves such keys as they are";
  }

  const Manifest& manifest_;
  const int rank_;
  const int size_;
  const LoadOptions& options_;
  Match match_;
  std::vector<std::string> kinds_, missing_, shapes_, dtypes_, worlds_;
};

}  // namespace

bool can_cast(DType from, DType to) {
  if (from == to) return true;
  const int bits = integer_bits(from);
  if (is_float(to)) return is_float(from) || bits > 0;
  if (bits == 0) return false;
  return integer_bits(to) >= bits && (is_signed(to) || !is_signed(from));
}

std::vector<ChunkRead> cut(const TensorEntry& entry, const Box& wanted) {
  std::vector<ChunkRead> reads;
  int64_t left = volume(wanted);
  const auto look_at = [&](size_t index) {
    const Box& chunk = entry.chunks[index].box;
    const auto both = intersect(chunk, wanted);
    if (!both) return;
    reads.push_back({index, relative(*both, chunk), relative(*both, wanted)});
    left -= volume(*both);
  };
  // From where the corner should be, to both sides until all is found: no element is in two chunks.
  const size_t middle = just_after(entry.chunks, wanted.offsets);
  for (size_t before = middle, after = middle; left > 0 && (before > 0 || after < entry.chunks.size());) {
    if (before > 0) look_at(--before);
    if (left > 0 && after < entry.chunks.size()) look_at(after++);
  }
  std::ranges::sort(reads, {}, &ChunkRead::chunk);
  return reads;
}

Match match(const Manifest& manifest, const StateDict& state, int rank, int size, const LoadOptions& options) {
  Matcher matcher(manifest, rank, size, options);
  for (const auto& [key, leaf] : state.leaves) {
    if (options.filter.takes(key)) matcher.add(key, leaf);
  }
  return matcher.finish();
}

}  // namespace tessera
