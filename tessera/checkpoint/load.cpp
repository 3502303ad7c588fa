#include "tessera/checkpoint/load.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <functional>
#include <set>
#include <tuple>
#include <utility>

#include "tessera/base/trace.h"
#include "tessera/checkpoint/head.h"
#include "tessera/checkpoint/open.h"
#include "tessera/checkpoint/place.h"
#include "tessera/checkpoint/rename.h"
#include "tessera/comm/on_every_rank.h"
#include "tessera/format/dcp.h"
#include "tessera/layout/overlap.h"
#include "tessera/plan/description.h"
#include "tessera/transfer/read_batch.h"

namespace tessera {
namespace {

// Two leaves that are one tensor in memory. The second is read into memory of its own and must turn out equal.
struct Tie {
  std::string first;
  std::string again;
  View of_first;
  View of_again;
};

// Everything that one rank will do to its state, found possible before any of it is done.
struct Ready {
  ReadBatch reads;
  std::vector<Tie> ties;
  std::vector<std::pair<View, View>> staged;           // what is read → where it goes once all went well
  std::vector<std::pair<std::string, Value>> objects;  // leaf → its new value
  Match match;
  std::set<std::string> wanted;  // keys of the manifest
};

// A box that is wanted, and the memory that it is read into.
struct Destination {
  const Wanted* wanted;
  const Box* box;
  View view;
};

std::vector<Destination> destinations_of(const Match& match, const StateDict& state) {
  std::vector<Destination> all;
  for (const Wanted& wanted : match.tensors) {
    for (const Shard& shard : std::get<TensorLeaf>(state.leaves.at(wanted.leaf).is).shards)
      all.push_back({&wanted, &shard.box, shard.view});
  }
  return all;
}

View memory_like(const View& view) {
  const auto memory = std::make_shared<Bytes>(static_cast<size_t>(bytes_of(view)));
  return dense_view(memory->data(), view.dtype, view.sizes, memory);
}

// Chooses where each box is read to. Memory that is not there is found missing before anything is read.
void prepare_memory(std::vector<Destination>& destinations, bool staged, Ready& ready) {
  std::vector<View> views;
  for (const Destination& destination : destinations) views.push_back(destination.view);
  const Overlaps found = overlaps(views);
  if (found.partly) {
    const std::string a = destinations[found.partly->first].wanted->leaf, b = destinations[found.partly->second].wanted->leaf;
    throw Error(
        {.code = Code::invalid_argument,
         .what = a == b ? "the memory of '" + a + "' holds an element more than once" : "'" + a + "' and '" + b + "' overlap in memory",
         .hint = "load into memory that holds each element once, as of clone()"});
  }
  if (staged) {
    for (Destination& destination : destinations) {
      View memory = memory_like(destination.view);
      ready.staged.emplace_back(memory, std::exchange(destination.view, memory));
    }
  }
  for (const auto& [first, again] : found.same) {
    Destination &a = destinations[first], &b = destinations[again];
    if (!staged) b.view = memory_like(b.view);
    ready.ties.push_back({a.wanted->leaf, b.wanted->leaf, a.view, b.view});
  }
}

// In the order in which the bytes lie on disk: what an item is, is then asked once, however many boxes need it.
void add_reads(const std::vector<Destination>& destinations, const Manifest& manifest, const Items& items, Comm& comm, Ready& ready) {
  struct Planned {
    const Destination* destination;
    const TensorEntry* entry;
    ChunkRead read;
    const Extent& at() const { return entry->chunks[read.chunk].at; }
  };
  std::vector<Planned> all;
  all.reserve(destinations.size());
  for (const Destination& destination : destinations) {
    const auto& entry = std::get<TensorEntry>(manifest.entries.at(destination.wanted->key).is);
    for (ChunkRead& read : cut(entry, *destination.box)) all.push_back({&destination, &entry, std::move(read)});
  }
  std::vector<const Planned*> order;
  order.reserve(all.size());
  for (const Planned& planned : all) order.push_back(&planned);
  const auto place = [](const Planned* planned) { return std::tie(planned->at().file, planned->at().offset_bytes); };
  if (!std::ranges::is_sorted(order, {}, place)) std::ranges::stable_sort(order, {}, place);
  const Planned* before = nullptr;
  OpenItem open;
  size_t opened = 0;
  for (const Planned* planned : order) {
    const bool again = before && before->entry == planned->entry && before->read.chunk == planned->read.chunk;
    if (!again) open = items.tensor(planned->destination->wanted->key, *planned->entry, planned->entry->chunks[planned->read.chunk]);
    ready.reads.add(open, planned->read.from, part(planned->destination->view, planned->read.to));
    before = planned;
    if (++opened % 1024 == 0) comm.note("open " + planned->at().file + ", " + std::to_string(opened) + " items so far");
  }
}

Ready prepare(const Opened& opened, const StateDict& state, Comm& comm, const LoadOptions& options) {
  const Manifest& manifest = opened.manifest;
  const Items& items = *opened.items;
  check_views(state, comm.rank(), comm.size());  // finds views that do not fit their boxes before they are written through
  Ready ready;
  ready.match = match(manifest, state, comm.rank(), comm.size(), options);
  std::vector<Destination> destinations = destinations_of(ready.match, state);
  prepare_memory(destinations, options.staged, ready);
  add_reads(destinations, manifest, items, comm, ready);
  for (const Wanted& wanted : ready.match.tensors) ready.wanted.insert(wanted.key);
  for (const Wanted& wanted : ready.match.objects) {
    ready.wanted.insert(wanted.key);
    ready.objects.emplace_back(wanted.leaf, items.object(wanted.key, std::get<ObjectEntry>(manifest.entries.at(wanted.key).is)));
  }
  for (const std::string& key : ready.match.reset) {
    for (int r = 0; manifest.entries.contains(rank_local_key(key, r)); ++r) ready.wanted.insert(rank_local_key(key, r));
  }
  for (const std::string& key : ready.match.reshaped) ready.wanted.insert(key);
  return ready;
}

void check_ranks(int saved, int here) {
  if (saved == here) return;
  throw Error({.code = Code::mismatch,
               .what = "saved by " + std::to_string(saved) + " ranks, each for itself, and here are " + std::to_string(here),
               .hint = "such a checkpoint loads on as many ranks as wrote it; `tessera convert` makes another of one rank's part"});
}

void put_names(ByteWriter& out, const auto& names) {
  out.put<uint64_t>(names.size());
  for (const std::string& name : names) out.put_string(name);
}
void add_names(ByteReader& in, std::set<std::string>& names) {
  const size_t count = in.get_count(1);
  for (size_t i = 0; i < count; ++i) names.insert(in.get_string());
}

Bytes encode_findings(const Ready& ready) {
  ByteWriter out;
  for (const auto* names : {&ready.match.missing, &ready.match.reshaped, &ready.match.cast, &ready.match.reset}) put_names(out, *names);
  put_names(out, ready.wanted);
  return out.take();
}

LoadReport merge_findings(const std::vector<Bytes>& all, const Manifest& manifest) {
  std::set<std::string> missing, reshaped, cast, reset, wanted;
  for (const Bytes& bytes : all) {
    ByteReader in(bytes);
    for (auto* names : {&missing, &reshaped, &cast, &reset, &wanted}) add_names(in, *names);
  }
  const auto list = [](const std::set<std::string>& names) { return std::vector<std::string>(names.begin(), names.end()); };
  LoadReport report{.missing = list(missing), .unexpected = {}, .reshaped = list(reshaped), .cast = list(cast), .reset = list(reset)};
  for (const auto& [key, entry] : manifest.entries) {
    if (!wanted.contains(key)) report.unexpected.push_back(key);
  }
  return report;
}

// Else the one that was read last would win.
void check_tie(const Tie& tie) {
  bool equal = true;
  const int64_t each = element_bytes(tie.of_first.dtype);
  for_each_run(tie.of_first.sizes, tie.of_first.strides, tie.of_again.strides, [&](int64_t a, int64_t b, int64_t count) {
    equal = equal && std::memcmp(tie.of_first.data + a * each, tie.of_again.data + b * each, static_cast<size_t>(count * each)) == 0;
  });
  if (equal) return;
  throw Error({.code = Code::mismatch,
               .what = "'" + tie.first + "' and '" + tie.again + "' are one tensor here and differ in the checkpoint",
               .hint = "untie them, or load one of the two"});
}

ReadCount read_all(Ready& ready, Comm& comm, const LoadOptions& options) {
  const ReadCount count = ready.reads.run(threads_of(options.io, comm.size()),
                                          [&](const std::string& file, int64_t done) { comm.note("read " + file, done, 0); });
  for (const Tie& tie : ready.ties) check_tie(tie);
  return count;
}

void add_counts(const std::vector<Bytes>& all, LoadReport& report) {
  for (const Bytes& bytes : all) {
    ByteReader in(bytes);
    report.read_bytes += in.get<int64_t>();
    report.unverified_bytes += in.get<int64_t>();
  }
}

void replace_objects(Ready& ready, StateDict& state) {
  for (auto& [key, value] : ready.objects) {
    auto& leaf = state.leaves.at(key).is;
    if (auto* local = std::get_if<RankLocal>(&leaf)) local->value = std::move(value);
    else leaf = std::move(value);
  }
  for (const std::string& key : ready.match.reset) std::get<RankLocal>(state.leaves.at(key).is).value = Value();
}

// What the leader found, opened on this rank.
Opened open_found(std::span<const std::byte> found, const std::shared_ptr<const Storage>& storage, const Path& directory,
                  const OpenOptions& options) {
  ByteReader in(found);
  if (in.get<Format>() != Format::dcp) return open_at(storage, directory, options);
  HeadBytes head;
  for (Bytes* bytes : {&head.metadata, &head.sidecar}) {
    const auto got = in.get_bytes();
    bytes->assign(got.begin(), got.end());
  }
  return open_with(storage, directory, head, options);
}

// The same fault on every rank, whether or not it had anything to fill.
LoadError failed_read(Fault fault, std::vector<std::string> undefined, bool staged) {
  if (!staged) {
    if (!fault.hint.empty()) fault.hint += "; ";
    fault.hint += "the tensors that were to be filled hold nothing of meaning now: load another step before training on";
  }
  return LoadError(std::move(fault), std::move(undefined));
}

// The tensors that a failed read may have begun to fill.
std::vector<std::string> undefined_keys(const Ready& ready, const LoadOptions& options) {
  if (options.staged) return {};
  std::vector<std::string> keys;
  for (const Wanted& wanted : ready.match.tensors) keys.push_back(wanted.leaf);
  return keys;
}

}  // namespace

LoadError::LoadError(Fault fault, std::vector<std::string> undefined) : Error(std::move(fault)), undefined_(std::move(undefined)) {}

LoadReport load(Comm& comm, const Storage& storage, const Path& directory, StateDict& state, const LoadOptions& options) {
  const auto begin = std::chrono::steady_clock::now();
  name_rank_row(comm.rank());
  comm.note("open " + directory);
  // The leader alone reads what may be large and is the same for all; the headers of other formats each rank reads itself.
  const auto shared = std::shared_ptr<const Storage>(std::shared_ptr<const Storage>(), &storage);
  const Bytes found = on_leader(comm, Phase::open, [&] {
    ByteWriter out;
    const Format format = format_at(storage, directory);
    out.put(format);
    if (format == Format::dcp) {
      const HeadBytes head = read_head(storage, directory);
      out.put_bytes(head.metadata);
      out.put_bytes(head.sidecar);
    }
    if (format == Format::dcp_rank_local) check_ranks(rank_local_ranks(storage, directory), comm.size());
    return out.take();
  });
  Opened opened;
  Ready ready;
  LoadReport report = merge_findings(on_every_rank_bytes(comm, Phase::check,
                                                         [&] {
                                                           const OpenOptions own{.rank = comm.rank(), .verify = options.verify};
                                                           const TraceSpan span("plan the reads");
                                                           opened = open_found(found, shared, directory, own);
                                                           rename_keys(opened, options.rename);
                                                           ready = prepare(opened, state, comm, options);
                                                           return encode_findings(ready);
                                                         }),
                                     opened.manifest);
  try {
    add_counts(on_every_rank_bytes(comm, Phase::read,
                                   [&] {
                                     const ReadCount count = read_all(ready, comm, options);
                                     ByteWriter out;
                                     out.put(count.read_bytes);
                                     out.put(count.unverified_bytes);
                                     return out.take();
                                   }),
               report);
  } catch (const Error& error) {
    throw failed_read(error.fault(), undefined_keys(ready, options), options.staged);
  }
  for (const auto& [from, to] : ready.staged) copy(from, to);
  replace_objects(ready, state);
  report.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  return report;
}

LoadReport load(Comm& comm, const std::string& directory, StateDict& state, const LoadOptions& options) {
  const Place place = place_of(directory);
  return load(comm, LocalStorage(place.parent), place.name, state, options);
}

void apply_loaded(Comm& comm, const std::function<void()>& apply) { on_every_rank(comm, Phase::apply, apply); }

}  // namespace tessera
