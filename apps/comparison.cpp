#include "apps/comparison.h"

#include <fmt/format.h>

#include <algorithm>
#include <unordered_map>

#include "data/dataset.h"
#include "data/image_io.h"
#include "train/metrics.h"

namespace glia {

std::array<Panel, 2> truth_beside_prediction(const Sample& truth, std::span<const Instance> predictions, const Tensor& image,
                                             bool scores) {
  const Overlaps overlap = overlaps(truth.instances, predictions);
  const MatchCounts counts = match_counts(overlap, 50);
  const Matching matching = match_instances(truth.instances, predictions);
  const OutlineStyle style{.fill = 0.15};
  const int zoom = scores && std::max(image.dim(0), image.dim(1)) <= 1024 ? 2 : 1;  // room for the digits
  Panel left{overlay(image, truth.instances, style, zoom), fmt::format("{}: {} true", truth.id, overlap.truth_areas.size())};
  Panel right{overlay_matches(image, truth.instances, predictions, matching.prediction_of, matching.truth_of, style, zoom),
              fmt::format("mAP {:.3f}: {} of {}, {} wrong", kaggle_score(overlap).map_iou(), counts.tp, counts.tp + counts.fn,
                          counts.fp)};
  if (scores) draw_scores(right.picture, predictions);
  return {left, right};
}

void draw_worst(const Evaluation& evaluation, const Dataset& truth, const Dataset& predictions, int64_t count,
                const std::filesystem::path& file) {
  std::vector<size_t> order(evaluation.per_image.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = i;
  const auto score = [&](size_t i) { return evaluation.per_image[i].second.map_iou; };
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return score(a) < score(b); });
  std::unordered_map<std::string, const Sample*> found;
  for (const Sample& s : predictions.samples) found[s.id] = &s;
  std::vector<Panel> panels;
  for (size_t k = 0; k < order.size() && int64_t(k) < count; ++k) {
    const Sample& sample = truth.samples[order[k]];
    const auto at = found.find(sample.id);
    const std::span<const Instance> instances = at == found.end() ? std::span<const Instance>{} : at->second->instances;
    for (Panel& panel : truth_beside_prediction(sample, instances, read_pixels(sample))) panels.push_back(std::move(panel));
  }
  if (panels.empty()) return;
  write_png(file, mosaic(panels, {.columns = panels.size() > 8 ? 4 : 2,
                                  .title = fmt::format("the {} worst images; {}", panels.size() / 2, matches_legend)}));
}

}  // namespace glia
