#include "tessera/layout/overlap.h"

#include <algorithm>
#include <map>
#include <tuple>

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

}  // namespace

Overlaps overlaps(std::span<const View> views) {
  Overlaps found;
  std::map<std::tuple<const std::byte*, DType, Sizes, Sizes>, size_t> distinct;
  std::vector<Extent> extents;
  for (size_t v = 0; v < views.size(); ++v) {
    const View& view = views[v];
    if (volume(view.sizes) == 0) continue;
    const auto [first, fresh] = distinct.try_emplace({view.data, view.dtype, view.sizes, view.strides}, v);
    if (fresh) extents.push_back(extent_of(views, v));
    else found.same.emplace_back(first->second, v);
    if (repeats(view)) found.partly = {v, v};
  }
  if (found.partly) return found;
  std::ranges::sort(extents, {}, &Extent::begin);
  for (size_t begin = 0, end = 0; begin < extents.size() && !found.partly; begin = end) {
    const std::byte* reach = extents[begin].end;
    for (end = begin + 1; end < extents.size() && extents[end].begin < reach; ++end) reach = std::max(reach, extents[end].end);
    if (end - begin == 1 && steps_apart(views[extents[begin].view])) continue;
    found.partly = first_shared(views, std::span(extents).subspan(begin, end - begin));
  }
  return found;
}

}  // namespace tessera
