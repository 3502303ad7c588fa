#include "tessera/checkpoint/verify.h"

#include <algorithm>
#include <atomic>
#include <map>
#include <set>
#include <thread>

#include "tessera/base/trace.h"
#include "tessera/checkpoint/place.h"
#include "tessera/format/dcp.h"
#include "tessera/format/sidecar_index.h"
#include "tessera/format/sidecar_reader.h"
#include "tessera/storage/names.h"

namespace tessera {
namespace {

constexpr int most_threads = 256;
constexpr size_t most_named = 16;     // keys of one damage
constexpr size_t most_damage = 1000;  // of one file
constexpr int64_t piece_bytes = int64_t{1} << 20;

// The ranges of one file that somebody's data lies in.
struct Range {
  int64_t begin_bytes = 0;
  int64_t end_bytes = 0;
  std::string key;
};
using Ranges = std::map<std::string, std::vector<Range>>;  // by file

Ranges ranges_of(const Manifest& manifest) {
  Ranges ranges;
  const auto add = [&](const std::string& key, const Extent& at) {
    ranges[at.file].push_back({at.offset_bytes, at.offset_bytes + at.length_bytes, key});
  };
  for (const auto& [key, entry] : manifest.entries) {
    if (const auto* object = std::get_if<ObjectEntry>(&entry.is)) add(key, object->at);
    else
      for (const Chunk& chunk : std::get<TensorEntry>(entry.is).chunks) add(key, chunk.at);
  }
  return ranges;
}

// The first few keys; a hostile manifest may let all of them lie everywhere.
std::vector<std::string> keys_in(const std::vector<Range>& ranges, int64_t begin, int64_t end) {
  std::set<std::string> keys;
  for (const Range& range : ranges) {
    if (range.begin_bytes < end && begin < range.end_bytes) keys.insert(range.key);
    if (keys.size() == most_named) break;
  }
  return {keys.begin(), keys.end()};
}

// What came of one file or one item.
struct Found {
  int64_t total_bytes = 0;
  int64_t verified_bytes = 0;
  int64_t damaged_bytes = 0;
  std::vector<Damage> damage;
};

// Does every job, on as many threads, and adds up what they found, in the order of the jobs.
void for_all(size_t jobs, int threads, VerifyReport& report, const std::function<Found(size_t)>& work) {
  std::vector<Outcome<Found>> all(jobs);
  std::atomic<size_t> next = 0;
  const auto run = [&] {
    for (size_t job = next++; job < jobs; job = next++) all[job] = capture([&] { return work(job); });
  };
  std::vector<std::thread> others;
  for (int t = 1; t < std::min<int>(threads, static_cast<int>(jobs)); ++t) {
    if (!capture([&] { others.emplace_back(run); })) break;  // fewer threads do the same work
  }
  run();
  for (std::thread& other : others) other.join();
  for (auto& outcome : all) {
    Found found = std::move(outcome).or_throw();
    report.total_bytes += found.total_bytes;
    report.verified_bytes += found.verified_bytes;
    report.damaged_bytes += found.damaged_bytes;
    std::ranges::move(found.damage, std::back_inserter(report.damage));
  }
}

// Blocks that are not what they were; those side by side are told as one.
class DamagedBlocks {
 public:
  DamagedBlocks(std::string file, const std::vector<Range>& ranges, Found& found)
      : file_(std::move(file)), ranges_(ranges), found_(found) {}
  void add(int64_t begin, int64_t end) {
    if (begin != end_) tell();
    if (begin_ < 0) begin_ = begin;
    end_ = end;
  }
  void add(const Fault& fault, int64_t begin, int64_t end) {
    tell();
    put({fault, keys_in(ranges_, begin, end)});
  }
  // What has not been told yet.
  void tell() {
    if (begin_ < 0) return;
    const std::string what = "bytes " + std::to_string(begin_) + " to " + std::to_string(end_) + " are not those that were published";
    put({{.code = Code::corrupt, .what = what, .file = file_, .offset_bytes = begin_}, keys_in(ranges_, begin_, end_)});
    begin_ = end_ = -1;
  }

 private:
  void put(Damage damage) {
    if (found_.damage.size() == most_damage) found_.damage.back().fault.what += ", and more after it";
    if (found_.damage.size() <= most_damage) found_.damage.push_back(std::move(damage));
  }
  const std::string file_;
  const std::vector<Range>& ranges_;
  Found& found_;
  int64_t begin_ = -1;
  int64_t end_ = -1;
};

Found check_file(const Storage& storage, const Path& directory, const std::string& name, const format::Sidecar& sidecar,
                 const std::vector<Range>& ranges, const VerifyOptions& options) {
  Found found;
  const auto opened = capture([&] {
    std::shared_ptr<const ByteSource> file = storage.open(below(directory, name));
    found.total_bytes = file->size_bytes();
    check_length(sidecar, name, *file);
    return file;
  });
  if (!opened) {
    found.damaged_bytes = found.total_bytes;
    found.damage.push_back({opened.fault, keys_in(ranges, 0, INT64_MAX)});
    return found;
  }
  if (options.depth == Depth::names_and_sizes) return found;
  const ByteSource& file = **opened.value;
  DamagedBlocks damaged(below(directory, name), ranges, found);
  const auto& digests = sidecar.files.at(name).blocks;
  Bytes block(static_cast<size_t>(std::min(sidecar.block_bytes, file.size_bytes())));
  for (size_t b = 0; b < digests.size(); ++b) {
    const int64_t begin = static_cast<int64_t>(b) * sidecar.block_bytes;
    const auto piece = std::span(block).first(static_cast<size_t>(std::min(sidecar.block_bytes, file.size_bytes() - begin)));
    const auto end = begin + static_cast<int64_t>(piece.size());
    const TraceSpan span("read and check", end - begin);
    const auto read = capture([&] { file.read(begin, piece); });
    const bool good = read && digest(piece) == digests[b];
    (good ? found.verified_bytes : found.damaged_bytes) += end - begin;
    if (!read) damaged.add(read.fault, begin, end);
    else if (!good) damaged.add(begin, end);
    if (options.progress) options.progress(end - begin);
  }
  damaged.tell();
  return found;
}

// The bytes of the item that its archive's CRC-32 vouches for, read and compared. They may be more than the item takes in the file,
// where that is compressed.
int64_t check_data(const OpenItem& open) {
  if (!open.tensor.data_crc) return 0;
  return in_item(open, [&](const ByteSource& item) {
    uint32_t crc = 0;
    Bytes piece(static_cast<size_t>(std::min(piece_bytes, open.tensor.data_bytes)));
    for (int64_t at = 0; at < open.tensor.data_bytes;) {
      const auto part = std::span(piece).first(static_cast<size_t>(std::min(piece_bytes, open.tensor.data_bytes - at)));
      item.read(open.tensor.data_offset_bytes + at, part);
      crc = crc32(part, crc);
      at += static_cast<int64_t>(part.size());
    }
    if (crc != *open.tensor.data_crc) throw corrupt_at(item, open.tensor.data_offset_bytes, "the data's CRC-32 differs from the archive's");
    return open.tensor.data_bytes;
  });
}

// An item of a checkpoint without a sidecar, as far as the depth asks.
struct Item {
  const std::string* key;
  const Entry* entry;
  const Chunk* chunk;  // none for an object
};

Found check_item(const Items& items, const Item& item) {
  Found found;
  const auto checked = capture([&] {
    if (!item.chunk) {
      const auto& entry = std::get<ObjectEntry>(item.entry->is);
      items.object(*item.key, entry);
      return entry.at.length_bytes;
    }
    return std::min(check_data(items.tensor(*item.key, std::get<TensorEntry>(item.entry->is), *item.chunk)), item.chunk->at.length_bytes);
  });
  if (checked) {
    found.verified_bytes = *checked.value;
  } else {
    found.damaged_bytes = item.chunk ? item.chunk->at.length_bytes : std::get<ObjectEntry>(item.entry->is).at.length_bytes;
    found.damage.push_back({checked.fault, {*item.key}});
  }
  return found;
}

std::vector<Item> items_of(const Manifest& manifest) {
  std::vector<Item> items;
  for (const auto& [key, entry] : manifest.entries) {
    if (std::holds_alternative<ObjectEntry>(entry.is)) items.push_back({&key, &entry, nullptr});
    else
      for (const Chunk& chunk : std::get<TensorEntry>(entry.is).chunks) items.push_back({&key, &entry, &chunk});
  }
  return items;
}

// Files that nothing but their length is known of.
void check_lengths(const Storage& storage, const Path& directory, const Ranges& ranges, VerifyReport& report) {
  for (const auto& [name, parts] : ranges) {
    const int64_t needed = std::ranges::max(parts, {}, &Range::end_bytes).end_bytes;
    int64_t length_bytes = 0;
    const auto opened = capture([&] {
      const auto file = storage.open(below(directory, name));
      length_bytes = file->size_bytes();
      report.total_bytes += length_bytes;
      if (length_bytes < needed) throw corrupt_at(*file, file->size_bytes(), "file ends early");
    });
    if (opened) continue;
    report.damaged_bytes += length_bytes;
    report.damage.push_back({opened.fault, keys_in(parts, 0, INT64_MAX)});
  }
}

void check_without_sidecar(const Storage& storage, const Path& directory, const Opened& opened, const VerifyOptions& options,
                           VerifyReport& report) {
  const Ranges ranges = ranges_of(opened.manifest);
  check_lengths(storage, directory, ranges, report);
  if (options.depth == Depth::names_and_sizes || !report.damage.empty()) return;
  const std::vector<Item> items = items_of(opened.manifest);
  for_all(items.size(), options.threads, report, [&](size_t i) {
    Found found = check_item(*opened.items, items[i]);
    if (options.progress) options.progress(found.verified_bytes + found.damaged_bytes);
    return found;
  });
}

// What readers of a few keys are told (read_head_of) must be what `.metadata` says.
void check_index(const HeadBytes& head, const Opened& opened) {
  const MemorySource source(head.sidecar, format::sidecar_file);
  if (format::SidecarReader::version(source) < 2) return;
  const format::SidecarReader reader(source);
  const auto differs = [](const char* what) { return Error({.code = Code::corrupt, .what = what, .file = format::sidecar_file}); };
  if (reader.head().metadata_ends != format::digest_of_ends(head.metadata)) throw differs("the ends of .metadata are others than it says");
  if (!reader.has_index()) return;
  std::vector<std::string> files;
  for (const auto& [name, digests] : opened.sidecar->files) files.push_back(name);
  Bytes index(static_cast<size_t>(reader.index().size_bytes()));
  reader.index().read(0, index);
  if (index != format::encode_index(opened.manifest, files)) throw differs("its index says other than .metadata");
}

void check_with_sidecar(const Storage& storage, const Path& directory, const Opened& opened, const HeadBytes& head,
                        const VerifyOptions& options, VerifyReport& report) {
  const Ranges ranges = ranges_of(opened.manifest);
  if (options.depth == Depth::every_byte) {
    const auto indexed = capture([&] { check_index(head, opened); });
    if (!indexed) report.damage.push_back({indexed.fault});
  }
  const int64_t head_bytes = static_cast<int64_t>(head.metadata.size() + head.sidecar.size());
  report.total_bytes += head_bytes;
  report.verified_bytes += head_bytes;
  std::vector<std::string> names;
  for (const auto& [name, file] : opened.sidecar->files) names.push_back(name);
  for_all(names.size(), options.threads, report, [&](size_t i) {
    const auto found = ranges.find(names[i]);
    return check_file(storage, directory, names[i], *opened.sidecar, found == ranges.end() ? std::vector<Range>{} : found->second, options);
  });
}

// Names in the directory that are none of `known`.
std::vector<std::string> others(const Storage& storage, const Path& directory, const std::set<std::string>& known) {
  std::vector<std::string> names;
  for (const DirectoryEntry& entry : storage.list(directory)) {
    if (!known.contains(entry.name)) names.push_back(entry.name);
  }
  std::ranges::sort(names);
  return names;
}

void verify_dcp(const std::shared_ptr<const Storage>& storage, const Path& path, const VerifyOptions& options, VerifyReport& report) {
  const auto head = capture([&] { return read_head(*storage, path, options.limits); });
  if (!head && head.fault.code == Code::not_found) {
    if (!storage->exists(below(path, format::sidecar_file))) throw Error(head.fault);
    report.has_sidecar = true;
    report.damage.push_back({{.code = Code::corrupt,
                              .what = "missing, though the sidecar beside it says that it was published",
                              .file = below(path, format::metadata_file)}});
    return;
  }
  const auto opened = capture([&] { return open_with(storage, path, Outcome(head).or_throw(), {.limits = options.limits}); });
  if (!opened) {
    report.damage.push_back({opened.fault});
    return;
  }
  report.save_id = opened.value->manifest.save_id;
  report.has_sidecar = opened.value->sidecar != nullptr;
  if (report.has_sidecar) report.metrics = opened.value->sidecar->metrics;
  std::set<std::string> known{format::metadata_file, format::sidecar_file};
  for (const auto& [file, ranges] : ranges_of(opened.value->manifest)) known.insert(file);
  report.files = static_cast<int64_t>(known.size()) - !report.has_sidecar;
  report.strangers = others(*storage, path, known);
  if (report.has_sidecar) return check_with_sidecar(*storage, path, *opened.value, *head.value, options, report);
  report.total_bytes += static_cast<int64_t>(head.value->metadata.size());
  check_without_sidecar(*storage, path, *opened.value, options, report);
}

// Everything else is opened as a reader would, for each rank where each saved for itself.
void verify_other(const std::shared_ptr<const Storage>& storage, const Path& path, const VerifyOptions& options, VerifyReport& report) {
  const int ranks = report.format == Format::dcp_rank_local ? rank_local_ranks(*storage, path) : 1;
  const bool one_file =
      report.format == Format::torch_save || (report.format == Format::safetensors && capture([&] { storage->open(path); }));
  const Path directory = one_file ? split(path).parent : path;
  for (int rank = 0; rank < ranks; ++rank) {
    const auto opened = capture([&] { return open_at(storage, path, {.rank = rank, .limits = options.limits}); });
    if (!opened) {
      report.damage.push_back({opened.fault});
      continue;
    }
    report.files += static_cast<int64_t>(ranges_of(opened.value->manifest).size());
    check_without_sidecar(*storage, directory, *opened.value, options, report);
  }
}

}  // namespace

VerifyReport verify(std::shared_ptr<const Storage> storage, const Path& path, const VerifyOptions& options) {
  if (options.threads < 1 || options.threads > most_threads)
    throw Error({.code = Code::invalid_argument, .what = "threads from 1 to " + std::to_string(most_threads)});
  VerifyReport report;
  report.format = format_at(*storage, path);
  if (report.format == Format::dcp) verify_dcp(storage, path, options, report);
  else verify_other(storage, path, options, report);
  report.unverified_bytes = std::max<int64_t>(0, report.total_bytes - report.verified_bytes - report.damaged_bytes);
  return report;
}

VerifyReport verify(const std::string& path, const VerifyOptions& options) {
  const Place place = place_of(path);
  return verify(std::make_shared<LocalStorage>(place.parent), place.name, options);
}

}  // namespace tessera
