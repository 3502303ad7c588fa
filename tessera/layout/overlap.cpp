#include "tessera/layout/overlap.h"

#include <algorithm>

namespace tessera {
namespace {

struct Extent {
  const std::byte* begin;
  const std::byte* end;
  size_t view;
};

// From the first element to the end of the last. The view has elements.
Extent extent_of(std::span<const View> views, size_t index) {
  const View& view = views[index];
  int64_t last = 0;
  for (size_t d = 0; d < view.sizes.size(); ++d) last += (view.sizes[d] - 1) * view.strides[d];
  return {view.data, view.data + (last + 1) * element_bytes(view.dtype), index};
}

// True if each stride steps over all that the smaller ones reach: then no two elements are one. False tells nothing.
bool steps_apart(const View& view) {
  std::vector<std::pair<int64_t, int64_t>> dims;  // stride, size
  for (size_t d = 0; d < view.sizes.size(); ++d) {
    if (view.sizes[d] > 1) dims.emplace_back(view.strides[d], view.sizes[d]);
  }
  std::ranges::sort(dims);
  int64_t reach = 0;
  for (const auto& [stride, size] : dims) {
    if (stride <= reach) return false;
    reach += stride * (size - 1);
  }
  return true;
}

// The first two runs of these views that share a byte, by view.
std::optional<std::pair<size_t, size_t>> first_shared(std::span<const View> views, std::span<const Extent> cluster) {
  std::vector<Extent> runs;
  for (const Extent& extent : cluster) {
    for_each_run(views[extent.view], [&](std::span<std::byte> run) { runs.push_back({run.data(), run.data() + run.size(), extent.view}); });
  }
  std::ranges::sort(runs, {}, [](const Extent& run) { return std::pair(run.begin, run.view); });
  for (size_t i = 1; i < runs.size(); ++i) {
    if (runs[i].begin < runs[i - 1].end) return std::minmax(runs[i - 1].view, runs[i].view);
  }
  return std::nullopt;
}

// One element repeated is no run of its own worth: found without a walk.
bool repeats(const View& view) {
  for (size_t d = 0; d < view.sizes.size(); ++d) {
    if (view.sizes[d] > 1 && view.strides[d] == 0) return true;
  }
  return false;
}

bool same_elements(const View& a, const View& b) { return a.dtype == b.dtype && a.sizes == b.sizes && a.strides == b.strides; }

}  // namespace

Overlaps overlaps(std::span<const View> views) {
  Overlaps found;
  std::vector<Extent> extents;
  extents.reserve(views.size());
  for (size_t v = 0; v < views.size(); ++v) {
    if (volume(views[v].sizes) == 0) continue;
    extents.push_back(extent_of(views, v));
    if (repeats(views[v])) found.partly = {v, v};
  }
  if (found.partly) return found;
  // Views that begin together stay in the order in which they were given.
  const auto by_begin = [](const Extent& extent) { return extent.begin; };
  if (!std::ranges::is_sorted(extents, {}, by_begin)) std::ranges::stable_sort(extents, {}, by_begin);
  size_t kept = 0;
  for (const Extent& extent : extents) {
    size_t like = kept;
    while (like > 0 && extents[like - 1].begin == extent.begin && !same_elements(views[extents[like - 1].view], views[extent.view])) --like;
    if (like > 0 && extents[like - 1].begin == extent.begin) found.same.emplace_back(extents[like - 1].view, extent.view);
    else extents[kept++] = extent;
  }
  extents.resize(kept);
  std::ranges::sort(found.same, {}, &std::pair<size_t, size_t>::second);
  for (size_t begin = 0, end = 0; begin < extents.size() && !found.partly; begin = end) {
    const std::byte* reach = extents[begin].end;
    for (end = begin + 1; end < extents.size() && extents[end].begin < reach; ++end) reach = std::max(reach, extents[end].end);
    if (end - begin == 1 && steps_apart(views[extents[begin].view])) continue;
    found.partly = first_shared(views, std::span(extents).subspan(begin, end - begin));
  }
  return found;
}

}  // namespace tessera
