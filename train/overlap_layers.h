#pragma once
// One image's detections cut into pieces, so that removing overlaps under any setting needs no pixel: a piece is a set of pixels that are
// covered by the same detections and the same true masks. For the search of thresholds, which tries hundreds of settings. What
// remains is what select_instances (data/selection.h) keeps.
#include <span>
#include <vector>

#include "data/instance.h"
#include "train/metrics.h"

namespace glia {

class OverlapLayers {
 public:
  // Crowds of the truth are left out. class_of_image: all detections count as of the class that most of them have, of equals the
  // first. Throws DataError where masks differ in size.
  OverlapLayers(std::span<const Instance> truth, std::span<const Instance> predictions, bool class_of_image = false);

  // What a detection needs to stay, by its class.
  struct Rule {
    double score_threshold = 0;
    int64_t min_size = 0;
    bool operator==(const Rule&) const = default;
  };
  // The overlaps of what remains: detections by falling score (equal ones in their order), each without the pixels of those before it;
  // dropped, and leaving its pixels to others, where its score is below the threshold or fewer than max(1, min_size) pixels are left. Only pairs of an
  // IoU above .5 are listed, which is all that the scores need. kept[i]: whether detection i stays.
  Overlaps remaining(std::span<const Rule> rules, std::vector<uint8_t>& kept) const;

  bool has_class(int category) const;

  int64_t pieces() const { return int64_t(pixels_.size()); }

 private:
  struct Detection {
    int32_t index;  // in the given list
    int category;
    double score;
  };
  // Lists of numbers, one after the other.
  struct Lists {
    std::vector<size_t> first{0};
    std::vector<int32_t> values;
    void push(std::span<const int32_t> list) {
      values.insert(values.end(), list.begin(), list.end());
      first.push_back(values.size());
    }
    std::span<const int32_t> of(size_t i) const { return std::span(values).subspan(first[i], first[i + 1] - first[i]); }
  };

  std::vector<Detection> detections_;  // by falling score
  std::vector<int64_t> truth_areas_;
  std::vector<int64_t> pixels_;  // by piece
  Lists truths_;                 // by piece
  Lists pieces_;                 // by detection
};

}  // namespace glia
