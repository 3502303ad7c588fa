#include "tessera/checkpoint/publish.h"

#include "tessera/format/dcp.h"

namespace tessera {
namespace {

void check_proof(const RankWrites& planned, const Proof& proof, const Storage& storage, const Path& staging) {
  const auto fail = [&](const std::string& what) { throw Error({.code = Code::corrupt, .what = what, .file = planned.file}); };
  if (proof.item_crcs.size() != planned.items.size()) {
    fail("the rank proved " + std::to_string(proof.item_crcs.size()) + " of " + std::to_string(planned.items.size()) + " items");
  }
  if (planned.items.empty()) return;
  if (proof.file != planned.file) fail("the rank wrote '" + proof.file + "' instead");
  if (proof.length_bytes != planned.file_bytes) {
    fail("the file has " + std::to_string(proof.length_bytes) + " bytes where the plan has " + std::to_string(planned.file_bytes));
  }
  const int64_t seen = storage.open(staging + "/" + planned.file)->size_bytes();
  if (seen != planned.file_bytes) {
    fail("the leader sees " + std::to_string(seen) + " bytes where the writer saw " + std::to_string(planned.file_bytes));
  }
}

}  // namespace

void publish(const SavePlan& plan, const std::vector<Proof>& proofs, Storage& storage, const Path& staging, const Path& target,
             Replace replace) {
  for (size_t r = 0; r < plan.ranks.size(); ++r) check_proof(plan.ranks[r], proofs.at(r), storage, staging);
  const Bytes metadata = format::encode_metadata(plan.manifest);
  const auto file = storage.create(staging + "/" + format::metadata_file);
  file->write(0, metadata);
  if (file->close() != static_cast<int64_t>(metadata.size())) {
    throw Error({.code = Code::corrupt, .what = "the file is not as long as what was written", .file = format::metadata_file});
  }
  storage.sync(staging);
  storage.commit(staging, target, format::metadata_file, replace);
}

}  // namespace tessera
