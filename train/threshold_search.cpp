#include "train/threshold_search.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <unordered_map>

#include "data/rle.h"
#include "tensor/parallel.h"
#include "train/config_toml.h"
#include "train/overlap_layers.h"

namespace glia {
namespace {

using Rule = OverlapLayers::Rule;

// What one image adds to the metrics.
struct ImageScore {
  double map_iou = 0, map_iou_compat = 0;
  MatchCounts at_50;
};

class Search {
 public:
  Search(const Dataset& truth, const Dataset& predictions, const ThresholdSearchOptions& options)
      : truth_(truth), predictions_(predictions), options_(options) {
    result_.metric = options.metric;
    result_.classes = predictions.categories;
    result_.images = int64_t(truth.samples.size());
    result_.class_of_image = options.class_of_image;
    check_input();
    const size_t images = truth.samples.size(), classes = predictions.categories.size();
    layers_.resize(images, OverlapLayers({}, {}));
    parallel_for(int64_t(images), 1, [&](int64_t begin, int64_t end) {
      for (auto i = size_t(begin); i < size_t(end); ++i)
        layers_[i] = OverlapLayers(truth.samples[i].instances, predictions.samples[i].instances, options.class_of_image);
    });
    images_with_.resize(classes);
    for (size_t i = 0; i < images; ++i) {
      all_.push_back(i);
      for (size_t c = 0; c < classes; ++c)
        if (layers_[i].has_class(int(c))) images_with_[c].push_back(i);
    }
    for (size_t c = 0; c < classes; ++c) sizes_.push_back(sizes_of(int(c)));
  }

  ThresholdSearch run() {
    const size_t classes = predictions_.categories.size();
    const std::vector<Rule> everything(classes, {-std::numeric_limits<double>::infinity(), 0}), half(classes, {0.5, 0});
    add_row("as predicted", everything);
    add_row("score >= 0.5", half);
    best_ = half;
    scores_ = scores_of(best_, all_);
    best_value_ = value_of(scores_);
    const bool refine = options_.thresholds.empty();
    std::vector<double> thresholds = options_.thresholds;
    for (int k = 5; refine && k <= 95; k += 5) thresholds.push_back(k / 100.);
    search_common(thresholds);
    if (classes > 1) search_each(thresholds);
    if (refine) search_each({});
    add_row("tuned", best_);
    for (const Rule& r : best_) result_.settings.push_back({r.score_threshold, r.min_size});
    count_classes();
    return std::move(result_);
  }

 private:
  void check_input() {
    if (options_.metric != "map_iou" && options_.metric != "map_iou_compat" && options_.metric != "f1_at_50")
      throw UsageError("tuning by '{}': want map_iou, map_iou_compat or f1_at_50", options_.metric);
    int64_t truths = 0, count = 0;
    double lowest = std::numeric_limits<double>::infinity(), highest = -lowest;
    GLIA_CHECK(predictions_.samples.size() == truth_.samples.size(), "tuning: {} images of predictions, {} of truth",
               predictions_.samples.size(), truth_.samples.size());
    for (size_t i = 0; i < truth_.samples.size(); ++i) {
      const Sample& p = predictions_.samples[i];
      GLIA_CHECK(p.id == truth_.samples[i].id, "tuning: predictions of image '{}' stand where the truth has '{}'", p.id,
                 truth_.samples[i].id);
      for (const Instance& t : truth_.samples[i].instances) truths += !t.crowd;
      for (const Instance& x : p.instances) {
        if (!std::isfinite(x.score)) throw DataError("tuning: image '{}' has a prediction with the score {}", p.id, x.score);
        lowest = std::min(lowest, x.score);
        highest = std::max(highest, x.score);
        ++count;
      }
    }
    if (truths == 0) throw DataError("tuning: the {} images have no true instance; nothing can be tuned", truth_.samples.size());
    if (count == 0) throw DataError("tuning: no predictions for the {} images; nothing can be tuned", truth_.samples.size());
    if (lowest == highest) {
      result_.warnings.push_back(fmt::format("all predictions have the score {}: only their sizes can be tuned", lowest));
    } else if (lowest > 0.2) {
      result_.warnings.push_back(fmt::format(
          "the lowest score is {:.2f}: lower thresholds cannot be tried; predict with a lower one first, such as --set "
          "eval.score_threshold=0.05",
          lowest));
    }
  }

  std::vector<int64_t> sizes_of(int category) const {
    std::vector<int64_t> sizes = options_.min_sizes;
    if (!sizes.empty()) return sizes;
    const bool classified = predictions_.categories == truth_.categories;
    std::vector<int64_t> own, all;
    for (const Sample& s : truth_.samples)
      for (const Instance& t : s.instances) {
        if (t.crowd) continue;
        all.push_back(area(t.mask));
        if (classified && t.category == category) own.push_back(all.back());
      }
    std::vector<int64_t>& areas = own.empty() ? all : own;
    const auto middle = areas.begin() + std::ptrdiff_t(areas.size() / 2);
    std::nth_element(areas.begin(), middle, areas.end());
    for (const double share : {0., .02, .05, .1, .15, .2, .25, .3, .4, .5}) sizes.push_back(std::lround(share * double(*middle)));
    return sizes;
  }

  std::vector<ImageScore> scores_of(const std::vector<Rule>& rules, std::span<const size_t> images) const {
    std::vector<ImageScore> scores;
    std::vector<uint8_t> kept;
    for (const size_t i : images) {
      const KaggleScore s = kaggle_score(layers_[i].remaining(rules, kept));
      scores.push_back({s.map_iou(), s.map_iou_compat(), s.strict[0]});
    }
    return scores;
  }

  double value_of(std::span<const ImageScore> scores) const {
    double sum = 0;
    MatchCounts counts;
    for (const ImageScore& s : scores) {
      sum += options_.metric == "map_iou" ? s.map_iou : s.map_iou_compat;
      counts += s.at_50;
    }
    return options_.metric == "f1_at_50" ? counts.f1() : sum / double(scores.size());
  }

  // Takes the first of the candidates that is best, where it is better than what is known. `images`: those that differ.
  bool try_all(const std::vector<std::vector<Rule>>& candidates, std::span<const size_t> images) {
    std::vector<double> values(candidates.size());
    parallel_for(int64_t(candidates.size()), 1, [&](int64_t begin, int64_t end) {
      for (auto k = size_t(begin); k < size_t(end); ++k) {
        std::vector<ImageScore> scores = scores_;
        const std::vector<ImageScore> changed = scores_of(candidates[k], images);
        for (size_t i = 0; i < images.size(); ++i) scores[images[i]] = changed[i];
        values[k] = value_of(scores);
      }
    });
    result_.tried += int64_t(candidates.size());
    const auto best = size_t(std::max_element(values.begin(), values.end()) - values.begin());
    if (values.empty() || values[best] <= best_value_ + 1e-12) return false;
    best_value_ = values[best];
    best_ = candidates[best];
    const std::vector<ImageScore> changed = scores_of(best_, images);
    for (size_t i = 0; i < images.size(); ++i) scores_[images[i]] = changed[i];
    return true;
  }

  // The same threshold for all classes, and the same place in the list of their sizes.
  void search_common(const std::vector<double>& thresholds) {
    std::vector<std::vector<Rule>> candidates;
    for (const double threshold : thresholds)
      for (size_t k = 0; k < sizes_[0].size(); ++k) {
        candidates.emplace_back();
        for (const auto& sizes : sizes_) candidates.back().push_back({threshold, sizes[k]});
      }
    try_all(candidates, all_);
  }

  // One class after the other until none gets better: over the given thresholds, or (none) those near its present one.
  void search_each(const std::vector<double>& thresholds) {
    constexpr int most_rounds = 5;
    std::vector<std::vector<Rule>> searched(best_.size());  // by class: the settings after which it was best already
    for (int round = 0; round < most_rounds; ++round) {
      bool better = false;
      for (size_t c = 0; c < best_.size(); ++c) {
        if (images_with_[c].empty() || searched[c] == best_) continue;
        std::vector<std::vector<Rule>> candidates;
        for (const double threshold : thresholds.empty() ? around(best_[c].score_threshold) : thresholds)
          for (const int64_t size : sizes_[c]) {
            candidates.push_back(best_);
            candidates.back()[c] = {threshold, size};
          }
        const bool found = try_all(candidates, images_with_[c]);
        if (!found || !thresholds.empty()) searched[c] = best_;
        better = better || found;
      }
      if (!better) break;
    }
  }

  static std::vector<double> around(double threshold) {
    std::vector<double> near;
    for (int64_t k = std::lround(threshold * 100) - 4; k <= std::lround(threshold * 100) + 4; ++k)
      if (k >= 0 && k <= 100) near.push_back(double(k) / 100);
    return near;
  }

  void add_row(const std::string& name, const std::vector<Rule>& rules) {
    ThresholdSearch::Row row{.name = name};
    MatchCounts counts;
    const std::vector<ImageScore> scores = scores_of(rules, all_);
    for (const ImageScore& s : scores) {
      row.map_iou += s.map_iou / double(scores.size());
      row.map_iou_compat += s.map_iou_compat / double(scores.size());
      counts += s.at_50;
    }
    row.f1_at_50 = counts.f1();
    row.instances = counts.tp + counts.fp;
    result_.rows.push_back(row);
  }

  void count_classes() {
    result_.predicted.assign(best_.size(), 0);
    result_.kept.assign(best_.size(), 0);
    std::vector<uint8_t> kept;
    for (const size_t i : all_) {
      layers_[i].remaining(best_, kept);
      for (size_t k = 0; k < kept.size(); ++k) {
        const auto c = size_t(predictions_.samples[i].instances[k].category);
        ++result_.predicted[c];
        result_.kept[c] += kept[k];
      }
    }
  }

  const Dataset& truth_;
  const Dataset& predictions_;
  const ThresholdSearchOptions& options_;
  std::vector<OverlapLayers> layers_;
  std::vector<size_t> all_;
  std::vector<std::vector<size_t>> images_with_;  // by class: images that its settings concern
  std::vector<std::vector<int64_t>> sizes_;       // by class
  std::vector<Rule> best_;
  std::vector<ImageScore> scores_;  // of the best
  double best_value_ = 0;
  ThresholdSearch result_;
};

size_t width_of(const std::vector<std::string>& names) {
  size_t width = 12;
  for (const std::string& name : names) width = std::max(width, name.size());
  return width;
}

}  // namespace

ThresholdSearch search_thresholds(const Dataset& truth, const Dataset& predictions, const ThresholdSearchOptions& options) {
  return Search(truth, predictions, options).run();
}

std::string ThresholdSearch::table() const {
  const size_t width = width_of(classes);
  std::string text =
      fmt::format("tuned by {} on {} images, {} settings tried; overlaps removed in each row\n", metric, images, tried);
  text += fmt::format("{:<{}} {:>9} {:>14} {:>9} {:>10}\n", "", width, "map_iou", "map_iou_compat", "f1_at_50", "instances");
  for (const Row& r : rows)
    text += fmt::format("{:<{}} {:>9.4f} {:>14.4f} {:>9.4f} {:>10}\n", r.name, width, r.map_iou, r.map_iou_compat, r.f1_at_50,
                        r.instances);
  text += fmt::format("{:<{}} {:>9} {:>14} {:>9} {:>10}\n", "class", width, "min score", "min size", "kept", "of");
  for (size_t c = 0; c < classes.size(); ++c)
    text += fmt::format("{:<{}} {:>9.2f} {:>14} {:>9} {:>10}\n", classes[c], width, settings[c].score_threshold,
                        settings[c].min_size, kept[c], predicted[c]);
  return text;
}

std::string ThresholdSearch::to_toml() const {
  const auto value = [this](const Row& r) {
    return metric == "map_iou" ? r.map_iou : metric == "f1_at_50" ? r.f1_at_50 : r.map_iou_compat;
  };
  std::string thresholds, sizes;
  for (const ClassSettings& s : settings) {
    thresholds += (thresholds.empty() ? "" : ", ") + toml_number(s.score_threshold);
    sizes += (sizes.empty() ? "" : ", ") + std::to_string(s.min_size);
  }
  std::string text =
      fmt::format("# Made by glia evaluate --tune: {} {:.4f} as predicted, {:.4f} with these settings, on {} images.\n", metric,
                  value(rows.front()), value(rows.back()), images);
  if (classes.size() > 1) {
    text += "# predict finds each class by its name.\n[data]\nclasses = [";
    for (size_t i = 0; i < classes.size(); ++i) text += (i ? ", " : "") + toml_quoted(classes[i]);
    text += "]\n";
  }
  return text + fmt::format("[eval]\nclass_thresholds = [{}]\nmin_sizes = [{}]\nclass_of_image = {}\nremove_overlaps = true\n",
                            thresholds, sizes, class_of_image);
}

}  // namespace glia
