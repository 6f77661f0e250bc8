#include "train/overlap_layers.h"

#include <algorithm>
#include <numeric>
#include <unordered_map>

#include "data/rle.h"
#include "data/rle_runs.h"
#include "data/selection.h"

namespace glia {
namespace {

// A mask begins or ends at a pixel (column-major).
struct Event {
  int64_t at;
  uint32_t mask;  // detections first, then truths
  bool begins;
};

std::vector<Event> events_of(const MaskList& masks) {
  std::vector<Event> events;
  for (uint32_t i = 0; i < masks.size(); ++i) {
    const Rle& m = *masks[i];
    if (m.height != masks[0]->height || m.width != masks[0]->width)
      throw DataError("removing overlaps: masks of {} x {} and {} x {} pixels (height x width), want the same size", m.height,
                      m.width, masks[0]->height, masks[0]->width);
    for_each_run(m, [&](int64_t begin, int64_t end) {
      events.push_back({begin, i, true});
      events.push_back({end, i, false});
    });
  }
  std::sort(events.begin(), events.end(), [](const Event& a, const Event& b) { return a.at < b.at; });
  return events;
}

// A number of 64 random bits per mask (Zobrist 1970): the exclusive or of a set's numbers is its hash.
uint64_t hash_of(uint32_t mask) {  // splitmix64
  uint64_t z = (mask + 1) * 0x9E3779B97F4A7C15u;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
  return z ^ (z >> 31);
}

}  // namespace

OverlapLayers::OverlapLayers(std::span<const Instance> truth, std::span<const Instance> predictions, bool class_of_image) {
  const int main = class_of_image ? most_frequent_class(predictions) : 0;
  for (size_t i = 0; i < predictions.size(); ++i)
    detections_.push_back({int32_t(i), class_of_image ? main : predictions[i].category, predictions[i].score});
  std::stable_sort(detections_.begin(), detections_.end(), [](const auto& a, const auto& b) { return a.score > b.score; });
  MaskList masks;
  for (const Detection& d : detections_) masks.push_back(&predictions[size_t(d.index)].mask);
  for (const Instance& t : truth) {
    if (t.crowd) continue;
    masks.push_back(&t.mask);
    truth_areas_.push_back(area(t.mask));
  }

  // Sweep over the pixels; between two events the same masks are active. Equal sets make one piece.
  const std::vector<Event> events = events_of(masks);
  const auto detections = uint32_t(detections_.size());
  Lists members;  // by piece: its masks, ascending
  std::unordered_multimap<uint64_t, size_t> known;
  std::vector<int32_t> active;
  uint64_t hash = 0;
  for (size_t e = 0; e < events.size();) {
    const int64_t at = events[e].at;
    for (; e < events.size() && events[e].at == at; ++e) {
      const auto mask = int32_t(events[e].mask);
      const auto place = std::lower_bound(active.begin(), active.end(), mask);
      // Touching runs of one mask may begin before they end, in the order of the sort.
      if (place != active.end() && *place == mask && !events[e].begins) {
        active.erase(place);
      } else {
        active.insert(place, mask);
      }
      hash ^= hash_of(events[e].mask);
    }
    if (active.empty() || uint32_t(active[0]) >= detections) continue;  // no detection here
    const int64_t length = events[e].at - at;
    const auto [begin, end] = known.equal_range(hash);
    const auto same = std::find_if(begin, end, [&](const auto& k) { return std::ranges::equal(members.of(k.second), active); });
    if (same != end) {
      pixels_[same->second] += length;
    } else {
      known.emplace(hash, pixels_.size());
      pixels_.push_back(length);
      members.push(active);
    }
  }

  std::vector<std::vector<int32_t>> pieces(detections_.size());
  std::vector<int32_t> truths;
  for (size_t i = 0; i < pixels_.size(); ++i) {
    truths.clear();
    for (const int32_t m : members.of(i)) {
      if (uint32_t(m) < detections) {
        pieces[size_t(m)].push_back(int32_t(i));
      } else {
        truths.push_back(m - int32_t(detections));
      }
    }
    truths_.push(truths);
  }
  for (const auto& list : pieces) pieces_.push(list);
}

bool OverlapLayers::has_class(int category) const {
  return std::any_of(detections_.begin(), detections_.end(), [category](const auto& d) { return d.category == category; });
}

Overlaps OverlapLayers::remaining(std::span<const Rule> rules, std::vector<uint8_t>& kept) const {
  Overlaps result{truth_areas_, {}, {}};
  kept.assign(detections_.size(), 0);
  std::vector<uint8_t> taken(pixels_.size());
  std::vector<int64_t> common(truth_areas_.size(), 0);
  std::vector<int32_t> touched;
  for (size_t d = 0; d < detections_.size(); ++d) {
    const Rule& rule = rules[size_t(detections_[d].category)];
    if (detections_[d].score < rule.score_threshold) continue;
    int64_t left = 0;
    for (const int32_t p : pieces_.of(d))
      if (!taken[size_t(p)]) left += pixels_[size_t(p)];
    if (left < std::max<int64_t>(1, rule.min_size)) continue;
    for (const int32_t p : pieces_.of(d)) {
      if (taken[size_t(p)]) continue;
      taken[size_t(p)] = 1;
      for (const int32_t t : truths_.of(size_t(p))) {
        if (common[size_t(t)] == 0) touched.push_back(t);
        common[size_t(t)] += pixels_[size_t(p)];
      }
    }
    kept[size_t(detections_[d].index)] = 1;
    for (const int32_t t : touched) {
      const int64_t n = common[size_t(t)];
      if (2 * n > truth_areas_[size_t(t)] + left - n) result.pairs.push_back({t, int32_t(result.prediction_areas.size()), n});
      common[size_t(t)] = 0;
    }
    touched.clear();
    result.prediction_areas.push_back(left);
  }
  return result;
}

}  // namespace glia
