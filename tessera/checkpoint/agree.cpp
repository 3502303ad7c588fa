#include "tessera/checkpoint/agree.h"

#include <algorithm>

#include "tessera/checkpoint/agree_messages.h"
#include "tessera/comm/list.h"
#include "tessera/comm/on_every_rank.h"
#include "tessera/plan/layout_table.h"

namespace tessera {
namespace {

Digest digest_of_shared_objects(const Described& mine) {
  ByteWriter out;
  for (const auto& [key, item] : mine.objects) {
    if (mine.rank_local.contains(key)) continue;
    out.put_string(key);
    out.put_raw(std::get<ObjectPart>(mine.description.at(key).is).content);
  }
  return digest(out.take());
}

// What this rank's part of a plan depends on: all that is described, but contents. Where every tensor has a layout, the table tells the
// boxes of every rank.
Digest digest_of_shape(const Described& mine, const std::optional<Digest>& table, int rank) {
  ByteWriter out;
  out.put<int64_t>(rank);
  out.put<uint8_t>(table.has_value());
  out.put_raw(table ? *table : shape_digest(mine.description));
  if (table) out.put_raw(shape_digest(rank_local_objects(mine)));
  return digest(out.take());
}

Digest name_of_plan(const std::vector<Digest>& shapes) {
  ByteWriter out;
  for (const Digest& shape : shapes) out.put_raw(shape);
  return digest(out.take());
}

// One rank's side of it, and on the leader everyone's.
class Agreeing {
 public:
  Agreeing(Comm& comm, const std::function<const Described&()>& describe, bool compare_replicas, PlanCache& cache)
      : comm_(comm), describe_(describe), compare_replicas_(compare_replicas), cache_(cache) {}

  Agreement run() {
    Orders orders = decode_orders(through_leader(
        comm_, Phase::plan, [&] { return encode(propose()); },
        [&](const std::vector<Bytes>& all) { return answer(decode_each(all, decode_proposal)); }));
    if (orders.save_id.empty()) orders = decode_orders(describe_to_leader());
    const auto kept = capture([&] { return keep(orders); });
    return {.save_id = orders.save_id, .total_bytes = orders.total_bytes, .planned = orders.planned, .writes = kept};
  }

 private:
  Proposal propose() {
    mine_ = &describe_();
    const std::optional<Digest> table = table_digest(*mine_, comm_.size());
    shape_ = digest_of_shape(*mine_, table, comm_.rank());
    Proposal proposal{.compare_replicas = compare_replicas_, .shape = shape_, .shared_objects = digest_of_shared_objects(*mine_)};
    if (cache_.mine && cache_.mine->shape == shape_) {
      proposal.held = cache_.mine->plan;
      return proposal;
    }
    proposal.table = table;
    proposal.rank_local = rank_local_objects(*mine_);
    return proposal;
  }

  // On the leader: one way for all.
  std::vector<Bytes> answer(std::vector<Proposal> all) {
    check_options(all);
    shapes_.clear();
    for (size_t r = 0; r < all.size(); ++r) {
      shapes_.push_back(all[r].shape);
      if (!all[r].held || !cache_.whole || all[r].held != cache_.whole->name) continue;
      all[r].table = cache_.whole->table;
      if (all[r].table) all[r].rank_local = cache_.whole->rank_local[r];
    }
    const auto alike = [&](auto member) {
      return std::ranges::all_of(all, [&](const Proposal& proposal) { return proposal.*member == all.front().*member; });
    };
    // Where objects differ, the descriptions tell which, and on whom.
    if (!compare_replicas_ && alike(&Proposal::shared_objects)) {
      if (cache_.whole && cache_.whole->shapes == shapes_) return reuse(all);
      if (all.front().table && alike(&Proposal::table)) return derive(all);
    }
    return std::vector<Bytes>(all.size(), encode(Orders{}));
  }

  static void check_options(const std::vector<Proposal>& all) {
    const bool expected = all.front().compare_replicas;
    const auto other = std::ranges::find_if(all, [&](const Proposal& proposal) { return proposal.compare_replicas != expected; });
    if (other == all.end()) return;
    throw Error({.code = Code::mismatch,
                 .what = "ranks 0 and " + std::to_string(other - all.begin()) + " disagree on whether replicas are compared",
                 .hint = "every rank must save with the same SaveOptions"});
  }

  std::vector<Bytes> reuse(const std::vector<Proposal>& all) {
    PlanCache::Whole& whole = *cache_.whole;
    whole.plan.manifest.save_id = random_id();
    std::vector<Bytes> answers;
    for (size_t r = 0; r < all.size(); ++r) {
      const bool keeps = all[r].held == whole.name;
      answers.push_back(encode_orders(Planned::reused, keeps ? Bytes{} : encode(whole.plan.ranks[r])));
    }
    return answers;
  }

  std::vector<Bytes> derive(const std::vector<Proposal>& all) {
    std::vector<Description> rank_local;
    std::vector<Bytes> encoded;
    for (const Proposal& proposal : all) {
      rank_local.push_back(proposal.rank_local);
      encoded.push_back(encode(proposal.rank_local));
    }
    // Whatever is wrong with the plan is found here, and told as one error.
    keep_whole(plan_save(table(), rank_local, random_id()));
    cache_.whole->table = all.front().table;
    cache_.whole->rank_local = std::move(rank_local);
    return std::vector<Bytes>(all.size(), encode_orders(Planned::derived, encode_list(encoded)));
  }

  // A second round: the leader plans for all. One rank alone has nobody to tell.
  Bytes describe_to_leader() {
    std::optional<Bytes> replicated;
    if (compare_replicas_) replicated = ask_for_replicas();
    std::optional<Description> digested;
    const auto mine = [&]() -> const Description& { return digested ? *digested : mine_->description; };
    const bool alone = comm_.size() == 1;
    return through_leader(
        comm_, Phase::plan,
        [&] {
          if (replicated) digested = with_digests(*mine_, decode_held_boxes(*replicated));
          return alone ? Bytes{} : encode(mine());
        },
        [&](const std::vector<Bytes>& all) {
          keep_whole(alone ? plan_save(std::span(&mine(), 1), random_id()) : plan_save(decode_each(all, decode_description), random_id()));
          std::vector<Bytes> answers;
          // The leader has the plan.
          for (const RankWrites& writes : cache_.whole->plan.ranks)
            answers.push_back(encode_orders(Planned::described, answers.empty() ? Bytes{} : encode(writes)));
          return answers;
        });
  }

  // Tells this rank which of its boxes are held elsewhere too: those whose digests the plan is to compare.
  Bytes ask_for_replicas() {
    return through_leader(
        comm_, Phase::plan, [&] { return encode(mine_->description); },
        [](const std::vector<Bytes>& all) {
          std::vector<Bytes> answers;
          for (const auto& boxes : replicated_boxes(decode_each(all, decode_description))) answers.push_back(encode(boxes));
          return answers;
        });
  }

  void keep_whole(SavePlan plan) {
    cache_.whole.reset();
    int64_t total_bytes = 0;
    for (const RankWrites& writes : plan.ranks) total_bytes += writes.file_bytes;
    cache_.whole = {.shapes = shapes_, .name = name_of_plan(shapes_), .total_bytes = total_bytes, .plan = std::move(plan)};
  }

  Bytes encode_orders(Planned planned, Bytes rest) const {
    const PlanCache::Whole& whole = *cache_.whole;
    return encode(Orders{planned, whole.plan.manifest.save_id, whole.total_bytes, whole.name, std::move(rest)});
  }

  // What the orders give this rank to write; where it is to plan for itself, it does so here.
  const RankWrites* keep(const Orders& orders) {
    const bool keeps = orders.planned == Planned::reused && orders.rest.empty();
    if (!keeps) {
      cache_.mine.reset();
      cache_.mine = {.shape = shape_, .plan = orders.plan, .writes = writes_of(orders)};
    }
    return &cache_.mine->writes;
  }

  RankWrites writes_of(const Orders& orders) {
    if (comm_.rank() == 0) return cache_.whole->plan.ranks.front();
    if (orders.planned != Planned::derived) return decode_rank_writes(orders.rest);
    const auto rank_local = decode_each(decode_list(orders.rest), decode_description);
    return tessera::writes_of(table(), rank_local, comm_.rank());
  }

  // Of this rank, whose tensors have layouts.
  LayoutTable table() const { return layout_table(*mine_, comm_.size()).value(); }

  Comm& comm_;
  const std::function<const Described&()>& describe_;
  const bool compare_replicas_;
  PlanCache& cache_;
  const Described* mine_ = nullptr;
  Digest shape_ = {};
  std::vector<Digest> shapes_;        // on the leader: of every rank
};

}  // namespace

Agreement agree_on_plan(Comm& comm, const std::function<const Described&()>& describe, bool compare_replicas, PlanCache& cache) {
  return Agreeing(comm, describe, compare_replicas, cache).run();
}

}  // namespace tessera
