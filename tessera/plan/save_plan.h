// tessera/plan/save_plan.h: who writes what where. A pure function of what the ranks hold.
// Promises    The manifest is complete before a byte is written: an item's length is arithmetic. The same descriptions
//             give the same plan, wherever it is made. Each element has one owner; replicas are spread by bytes, and
//             a large box is cut into rows for those who hold it.
// Errors      Error(mismatch) that names the key and ranks where ranks disagree (dtype, shape, path, an object's content; a
//             box's content, where the descriptions have its digest), and
//             Error(invalid_argument) that names the key and the boxes where they overlap or leave a hole.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <span>
#include <string>
#include <vector>

#include "tessera/base/bytes.h"
#include "tessera/manifest/manifest.h"
#include "tessera/plan/description.h"
#include "tessera/plan/layout_table.h"

namespace tessera {

// One item of the rank's file; items stand one after another, in this order, from the file's first byte.
struct WriteItem {
  std::string key;  // as in the rank's description
  int32_t box = -1;  // index among the tensor's boxes there; -1 for an object
  int64_t length_bytes = 0;
  Rows rows = {};  // of that box, where its holders share the writing
  bool operator==(const WriteItem&) const = default;
};

// What one rank writes: one file, or none when it owns nothing.
struct RankWrites {
  std::string file;
  std::vector<WriteItem> items;
  int64_t file_bytes = 0;
  bool operator==(const RankWrites&) const = default;
};

struct SavePlan {
  Manifest manifest;
  std::vector<RankWrites> ranks;
};

SavePlan plan_save(std::span<const Description> ranks, const std::string& save_id);
inline SavePlan plan_save(std::initializer_list<Description> ranks, const std::string& save_id) {
  return plan_save(std::span(ranks.begin(), ranks.size()), save_id);
}
// The plan of the descriptions that description_of(table, r) and locals[r] make together, without making them. `locals`: each rank's
// rank-local objects.
SavePlan plan_save(const LayoutTable& table, const std::vector<Description>& locals, const std::string& save_id);
// What one rank writes by that plan. It costs less, and finds less: what is wrong with the layouts only the whole plan tells.
RankWrites writes_of(const LayoutTable& table, const std::vector<Description>& locals, int rank);

// For each rank, those of its boxes that are held elsewhere too, by another rank or twice by this one: what with_digests() has to look
// at before plan_save() can compare replicas.
std::vector<std::vector<HeldBox>> replicated_boxes(const std::vector<Description>& ranks);

Bytes encode(const RankWrites& writes);
RankWrites decode_rank_writes(std::span<const std::byte> bytes);

}  // namespace tessera
