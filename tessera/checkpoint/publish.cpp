#include "tessera/checkpoint/publish.h"

#include <algorithm>
#include <set>

#include "tessera/checkpoint/reclaim.h"
#include "tessera/format/dcp.h"
#include "tessera/format/sidecar.h"
#include "tessera/format/sidecar_index.h"

namespace tessera {
namespace {

void check_proof(const RankWrites& planned, const Proof& proof, const Storage& storage, const Path& staging) {
  const auto fail = [&](const std::string& what) { throw Error({.code = Code::corrupt, .what = what, .file = planned.file}); };
  if (planned.items.empty()) return;
  if (proof.file != planned.file) fail("the rank wrote '" + proof.file + "' instead");
  if (proof.length_bytes != planned.file_bytes) {
    fail("the file has " + std::to_string(proof.length_bytes) + " bytes where the plan has " + std::to_string(planned.file_bytes));
  }
  if (proof.writes != digest(encode(planned))) {
    throw Error({.code = Code::internal,
                 .what = "the rank wrote other tensors, or in another order, than the leader planned",
                 .file = planned.file,
                 .hint = "give every rank the same layouts; without layouts the leader plans for all"});
  }
  const int64_t blocks = format::block_count(planned.file_bytes, block_bytes);
  if (static_cast<int64_t>(proof.blocks.size()) != blocks) {
    fail("the rank proved " + std::to_string(proof.blocks.size()) + " of " + std::to_string(blocks) + " blocks");
  }
  const int64_t seen = storage.open(staging + "/" + planned.file)->size_bytes();
  if (seen != planned.file_bytes) {
    fail("the leader sees " + std::to_string(seen) + " bytes where the writer saw " + std::to_string(planned.file_bytes));
  }
}

// Who fills a staging directory but for our ranks has nothing to say in it.
void check_names(const SavePlan& plan, const Storage& storage, const Path& staging) {
  std::set<std::string> planned;
  for (const RankWrites& writes : plan.ranks) {
    if (!writes.items.empty()) planned.insert(writes.file);
  }
  for (const DirectoryEntry& entry : storage.list(staging)) {
    if (planned.contains(entry.name)) continue;
    throw Error(
        {.code = Code::corrupt, .what = "the staging directory holds a file that nobody planned", .file = staging + "/" + entry.name});
  }
}

Error taken(const Standing& standing, const Path& target) {
  const bool files = standing.kind == Standing::Kind::files;
  return Error({.code = Code::exists,
                .what = describe(standing) + (files ? " are" : " is") + " there already",
                .file = target,
                .hint = std::string("choose another place, or ask for it to be replaced") +
                        (files ? "; tessera gc removes what a save that was cut short left in it" : "")});
}

void commit(Storage& storage, const Path& staging, const Path& target, Replace replace, const std::optional<Standing>& replaces) {
  const auto still_the_same = [&](const Path& old) {
    const Standing standing = standing_at(storage, old);
    if (!replaces || standing == *replaces) return;
    throw Error({.code = Code::exists,
                 .what = "superseded by " + describe(standing) + ", where this save was to replace " + describe(*replaces),
                 .file = target,
                 .hint = "another job saves to the same place"});
  };
  const auto committed = capture([&] { storage.commit(staging, target, format::metadata_file, replace, still_the_same); });
  if (committed) return;
  if (committed.fault.code == Code::exists && replace == Replace::never) {
    const auto standing = capture([&] { return standing_at(storage, target); });
    if (standing && standing.value->kind == Standing::Kind::checkpoint) throw taken(*standing.value, target);
  }
  throw Error(committed.fault);
}

// Written, synced and closed.
void write_file(Storage& storage, const Path& staging, const char* name, const Bytes& bytes) {
  const auto file = storage.create(staging + "/" + name);
  file->write(0, bytes);
  if (file->close() != static_cast<int64_t>(bytes.size()))
    throw Error({.code = Code::corrupt, .what = "the file is not as long as what was written", .file = name});
}

// The files that the plan has, ascending.
std::vector<std::string> files_of(const SavePlan& plan) {
  std::vector<std::string> files;
  for (const RankWrites& writes : plan.ranks) {
    if (!writes.items.empty()) files.push_back(writes.file);
  }
  std::ranges::sort(files);
  return files;
}

const EncodedPlan& encode(const SavePlan& plan, std::optional<EncodedPlan>& kept) {
  if (kept) format::set_save_id(kept->metadata, plan.manifest.save_id);
  else kept = EncodedPlan{.metadata = format::encode_metadata(plan.manifest), .index = format::encode_index(plan.manifest, files_of(plan))};
  return *kept;
}

}  // namespace

Standing prepare_target(Storage& storage, const Path& target, Replace replace) {
  reclaim_inside(storage, target);
  const Standing standing = standing_at(storage, target);
  if (replace == Replace::never && standing.kind != Standing::Kind::nothing) throw taken(standing, target);
  if (standing.kind == Standing::Kind::files) {
    throw Error({.code = Code::exists,
                 .what = "a directory that is no checkpoint is there, and is not replaced",
                 .file = target,
                 .hint = "choose another place, or remove it yourself"});
  }
  return standing;
}

void publish(const SavePlan& plan, const std::vector<Proof>& proofs, const std::map<std::string, double>& metrics, Storage& storage,
             const Path& staging, const Path& target, Replace replace, const std::optional<Standing>& replaces,
             std::optional<EncodedPlan>* encoded) {
  std::optional<EncodedPlan> of_this_save;
  const auto& [metadata, index] = encode(plan, encoded ? *encoded : of_this_save);
  format::Sidecar sidecar{.save_id = plan.manifest.save_id,
                          .metadata_bytes = static_cast<int64_t>(metadata.size()),
                          .metadata = digest(metadata),
                          .metadata_ends = format::digest_of_ends(metadata),
                          .block_bytes = block_bytes,
                          .files = {},
                          .metrics = metrics};
  for (size_t r = 0; r < plan.ranks.size(); ++r) {
    const Proof& proof = proofs.at(r);
    check_proof(plan.ranks[r], proof, storage, staging);
    if (!plan.ranks[r].items.empty()) sidecar.files[proof.file] = {proof.length_bytes, proof.blocks};
  }
  check_names(plan, storage, staging);
  write_file(storage, staging, format::sidecar_file, format::encode_sidecar(sidecar, index));
  write_file(storage, staging, format::metadata_file, metadata);
  storage.sync(staging);
  commit(storage, staging, target, replace, replaces);
}

}  // namespace tessera
