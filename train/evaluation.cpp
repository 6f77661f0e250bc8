#include "train/evaluation.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>

#include "data/rle.h"
#include "data/rle_runs.h"
#include "tensor/parallel.h"

namespace glia {
namespace {

// What one image adds to the means.
struct ImageScores {
  KaggleScore kaggle;
  double dice = 0, bce = 0;
  int64_t n_truth = 0, n_pred = 0;
};

// An instance, and its category among those of the truth.
struct Item {
  const Instance* instance;
  int category;
};

MaskList masks_of(std::span<const Item> items, int category) {
  MaskList masks;
  for (const Item& i : items)
    if (!i.instance->crowd && (category < 0 || i.category == category)) masks.push_back(&i.instance->mask);
  return masks;
}

// Pixels in the union of the true masks, of the predicted ones, and in both.
struct Foreground {
  int64_t truth = 0, prediction = 0, both = 0;
};

using Runs = std::vector<std::array<int64_t, 2>>;  // ascending, apart

Runs union_of(const MaskList& masks) {
  Runs runs, merged;
  for (const Rle* m : masks) for_each_run(*m, [&](int64_t begin, int64_t end) { runs.push_back({begin, end}); });
  std::sort(runs.begin(), runs.end());
  for (const auto& [begin, end] : runs) {
    if (!merged.empty() && begin <= merged.back()[1])
      merged.back()[1] = std::max(merged.back()[1], end);
    else
      merged.push_back({begin, end});
  }
  return merged;
}

// Work and memory by the runs, whatever size an image claims to have.
Foreground foreground(const MaskList& truth, const MaskList& prediction) {
  const Runs t = union_of(truth), p = union_of(prediction);
  const auto size = [](const Runs& runs) {
    int64_t pixels = 0;
    for (const auto& [begin, end] : runs) pixels += end - begin;
    return pixels;
  };
  Foreground f{size(t), size(p), 0};
  for (size_t i = 0, j = 0; i < t.size() && j < p.size(); t[i][1] < p[j][1] ? ++i : ++j)
    f.both += std::max<int64_t>(0, std::min(t[i][1], p[j][1]) - std::max(t[i][0], p[j][0]));
  return f;
}

// category -1: all of them.
ImageScores score_image(const Sample& image, std::span<const Item> truth, std::span<const Item> predicted, int category) {
  const MaskList t = masks_of(truth, category), p = masks_of(predicted, category);
  ImageScores s;
  s.kaggle = kaggle_score(overlaps(t, p));
  s.n_truth = int64_t(t.size());
  s.n_pred = int64_t(p.size());
  const int64_t pixels = image.height * image.width;
  const Foreground f = foreground(t, p);
  const int64_t sum = f.truth + f.prediction;
  s.dice = sum ? 2. * double(f.both) / double(sum) : 1;
  const double wrong = pixels ? double(sum - 2 * f.both) / double(pixels) : 0;
  constexpr double clip = 1e-7;
  s.bce = -wrong * std::log(clip) - (1 - wrong) * std::log1p(-clip);
  return s;
}

Scores mean_of(std::span<const ImageScores> all, std::span<const int> images) {
  Scores mean;
  MatchCounts at_50;
  for (const int i : images) {
    const ImageScores& s = all[size_t(i)];
    mean.map_iou += s.kaggle.map_iou();
    mean.map_iou_compat += s.kaggle.map_iou_compat();
    for (size_t t = 0; t < num_iou_thresholds; ++t) mean.precision_at[t] += s.kaggle.strict[t].precision();
    at_50 += s.kaggle.strict[0];
    mean.dice += s.dice;
    mean.bce += s.bce;
    mean.n_truth += s.n_truth;
    mean.n_pred += s.n_pred;
  }
  mean.n_images = int64_t(images.size());
  mean.f1_at_50 = at_50.f1();
  const auto n = double(std::max<size_t>(1, images.size()));
  for (double* value : {&mean.map_iou, &mean.map_iou_compat, &mean.dice, &mean.bce}) *value /= n;
  for (double& value : mean.precision_at) value /= n;
  return mean;
}

void check_instance(const Sample& truth, const Instance& i, const char* side) {
  if (i.mask.height != truth.height || i.mask.width != truth.width)
    throw DataError("evaluate: image '{}' has {} x {} pixels (height x width), a {} mask {} x {} (resized predictions?)",
                    truth.id, truth.height, truth.width, side, i.mask.height, i.mask.width);
  if (!std::isfinite(i.score))
    throw DataError("evaluate: image '{}': a {} instance has the score {}, want a finite number (a diverged training?)", truth.id,
                    side, i.score);
}

// Index of each predicted category among the true ones; empty where the predictions are unclassified.
std::vector<int> match_categories(const Dataset& truth, const Dataset& predictions, std::vector<std::string>& warnings) {
  std::vector<int> map;
  for (const std::string& name : predictions.categories) {
    const auto at = std::find(truth.categories.begin(), truth.categories.end(), name);
    if (at != truth.categories.end()) {
      map.push_back(int(at - truth.categories.begin()));
    } else if (predictions.categories.size() == 1) {
      return {};
    } else if (truth.categories.size() <= 1) {
      warnings.push_back(fmt::format("the predictions have a category '{}', the truth only {}: all count as unclassified", name,
                                     truth.categories.empty() ? "none" : "'" + truth.categories[0] + "'"));
      return {};
    } else {
      throw DataError("evaluate: the predictions have a category '{}', the truth has {} (another data set?)", name,
                      fmt::join(truth.categories, ", "));
    }
  }
  return map;
}

int main_category(const Sample& sample, size_t categories) {
  std::vector<int64_t> votes(std::max<size_t>(1, categories));
  for (const Instance& i : sample.instances)
    if (!i.crowd) ++votes[size_t(i.category)];
  const auto best = std::max_element(votes.begin(), votes.end());
  return *best ? int(best - votes.begin()) : -1;
}

class Evaluator {
 public:
  Evaluator(const Dataset& truth, const Dataset& predictions, const EvaluateOptions& options) : truth_(truth), options_(options) {
    std::map<std::string, size_t> index;
    for (size_t i = 0; i < truth.samples.size(); ++i) index[truth.samples[i].id] = i;
    true_.resize(truth.samples.size());
    predicted_.resize(truth.samples.size());
    std::vector<bool> given(truth.samples.size());
    const std::vector<int> categories = match_categories(truth, predictions, warnings_);
    classified_ = !categories.empty();
    for (size_t i = 0; i < truth.samples.size(); ++i)
      for (const Instance& t : truth.samples[i].instances) {
        check_instance(truth.samples[i], t, "true");
        true_[i].push_back({&t, t.category});
      }
    for (const Sample& p : predictions.samples) {
      const auto at = index.find(p.id);
      if (at == index.end())
        throw DataError(
            "evaluate: a prediction for image '{}', which is not among the {} images of the truth (another data set?)", p.id,
            truth.samples.size());
      given[at->second] = true;
      for (const Instance& i : p.instances) {
        check_instance(truth.samples[at->second], i, "predicted");
        predicted_[at->second].push_back({&i, classified_ ? categories.at(size_t(i.category)) : 0});
      }
    }
    missing_ = std::count(given.begin(), given.end(), false);
    all_.resize(truth.samples.size());
    std::iota(all_.begin(), all_.end(), 0);
  }

  Evaluation run() {
    const std::vector<ImageScores> scores = score_images(-1);
    const CocoEvaluator bbox(coco_images(IouKind::bbox), coco_categories(), IouKind::bbox, options_.protocol);
    const CocoEvaluator segm(coco_images(IouKind::segm), coco_categories(), IouKind::segm, options_.protocol);
    Evaluation result;
    static_cast<Scores&>(result) = mean_of(scores, all_);
    result.bbox = bbox.summary();
    result.segm = segm.summary();
    result.curves = segm.curves();
    result.protocol = options_.protocol;
    result.warnings = warnings_;
    if (result.n_truth == 0) result.warnings.push_back("the truth has no instance: metrics that need truth say nothing");
    if (missing_)
      result.warnings.push_back(
          fmt::format("{} of {} images have no prediction; they count with zero detections", missing_, all_.size()));
    warn_of_limit(result.warnings);
    const auto of_images = [&](std::span<const int> images) {
      Scores s = mean_of(scores, images);
      s.bbox = bbox.of_images(images);
      s.segm = segm.of_images(images);
      return s;
    };
    for (int c = 0; truth_.categories.size() > 1 && c < int(truth_.categories.size()); ++c) {
      Scores s;
      if (classified_) {
        s = mean_of(score_images(c), images_with(c));
        s.bbox = bbox.of_category(c);
        s.segm = segm.of_category(c);
        s.curves = segm.curves_of_category(c);
      } else {
        std::vector<int> images;
        for (const int i : all_)
          if (main_category(truth_.samples[size_t(i)], truth_.categories.size()) == c) images.push_back(i);
        s = of_images(images);
        s.curves = segm.curves_of_images(images);
      }
      result.per_class.emplace_back(truth_.categories[size_t(c)], s);
    }
    if (options_.per_image)
      for (const int i : all_) result.per_image.emplace_back(truth_.samples[size_t(i)].id, of_images({&i, 1}));
    return result;
  }

 private:
  int coco_categories() const { return classified_ ? int(truth_.categories.size()) : 1; }

  std::vector<ImageScores> score_images(int category) const {
    std::vector<ImageScores> scores(all_.size());
    parallel_for(int64_t(all_.size()), 1, [&](int64_t begin, int64_t end) {
      for (auto i = size_t(begin); i < size_t(end); ++i)
        scores[i] = score_image(truth_.samples[i], true_[i], predicted_[i], category);
    });
    return scores;
  }

  // Images where the category occurs on either side: two empty sides would count as a perfect score.
  std::vector<int> images_with(int category) const {
    const auto is = [category](const Item& i) { return !i.instance->crowd && i.category == category; };
    std::vector<int> images;
    for (const int i : all_) {
      const auto &t = true_[size_t(i)], &p = predicted_[size_t(i)];
      if (std::any_of(t.begin(), t.end(), is) || std::any_of(p.begin(), p.end(), is)) images.push_back(i);
    }
    return images;
  }

  std::vector<CocoImage> coco_images(IouKind kind) const {
    std::vector<CocoImage> images(all_.size());
    for (size_t i = 0; i < images.size(); ++i) {
      for (const auto& [t, category] : true_[i])
        images[i].truth.push_back(
            {&t->mask, t->box, classified_ ? category : 0, t->crowd, t->area >= 0 ? t->area : double(area(t->mask))});
      for (const auto& [p, category] : predicted_[i])
        images[i].detections.push_back(
            {&p->mask, p->box, category, p->score, kind == IouKind::segm ? double(area(p->mask)) : p->box[2] * p->box[3]});
    }
    return images;
  }

  void warn_of_limit(std::vector<std::string>& warnings) const {
    const int limit = options_.protocol.max_detections[2];
    int64_t images = 0, most = 0;
    std::string example;
    for (const int i : all_) {
      std::vector<int64_t> counts(size_t(coco_categories()), 0);
      for (const Item& p : predicted_[size_t(i)]) ++counts[size_t(p.category)];
      const int64_t count = *std::max_element(counts.begin(), counts.end());
      images += count > limit;
      if (count > most) most = count, example = truth_.samples[size_t(i)].id;
    }
    if (images)
      warnings.push_back(
          fmt::format("{} of {} images have more than {} detections of a class (most: {} in '{}'); COCO's numbers and the curves "
                      "count the {} "
                      "with the highest scores: raise --max-detections to count all",
                      images, all_.size(), limit, most, example, limit));
  }

  const Dataset& truth_;
  const EvaluateOptions& options_;
  std::vector<std::vector<Item>> true_, predicted_;  // by image of the truth; the data sets own the instances
  std::vector<int> all_;                             // 0, 1, ...: every image
  bool classified_ = false;
  int64_t missing_ = 0;
  std::vector<std::string> warnings_;
};

}  // namespace

Evaluation evaluate(const Dataset& truth, const Dataset& predictions, const EvaluateOptions& options) {
  const auto& limits = options.protocol.max_detections;
  if (!std::is_sorted(limits.begin(), limits.end()) || limits[0] < 1)
    throw UsageError("evaluate: detection limits {}, {}, {}, want three ascending numbers from 1", limits[0], limits[1],
                     limits[2]);
  return Evaluator(truth, predictions, options).run();
}

}  // namespace glia
