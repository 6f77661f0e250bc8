#pragma once
// COCO's average precision and recall, equal to pycocotools' COCOeval for boxes and masks. Constants: IoU thresholds .50:.05:.95,
// recall grid 0:.01:1, areas small up to 32^2, medium up to 96^2, large above (both ends belong to a range).
#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "data/instance.h"

namespace glia {

struct CocoTruth {
  Rle mask;  // segm only
  Box box{};
  int category = 0;
  bool crowd = false;  // detections on it are neither right nor wrong
  double area = 0;     // that decides the size class; COCO files state it
};

struct CocoDetection {
  Rle mask;
  Box box{};
  int category = 0;
  double score = 0;
  double area = 0;  // pycocotools: pixels for segm, width * height for bbox
};

struct CocoImage {
  std::vector<CocoTruth> truth;
  std::vector<CocoDetection> detections;
};

// The twelve numbers in the order of COCOeval.summarize; -1 where nothing defines them. ar1, ar10 and ar100 stand for the three
// detection limits whatever they are; ap to apl and ars to arl use the last.
struct CocoSummary {
  double ap = -1, ap50 = -1, ap75 = -1, aps = -1, apm = -1, apl = -1;
  double ar1 = -1, ar10 = -1, ar100 = -1, ars = -1, arm = -1, arl = -1;
};

enum class IouKind { bbox, segm };

class CocoEvaluator {
 public:
  // Matches every image at once, in parallel; images in the order of their ids. Throws DataError where masks of one image differ
  // in size, InternalError for a category outside [0, num_categories).
  CocoEvaluator(std::span<const CocoImage> images, int num_categories, IouKind kind,
                std::array<int, 3> max_detections = {1, 10, 100});

  CocoSummary summary() const;
  CocoSummary of_category(int category) const;
  CocoSummary of_images(std::span<const int> images) const;  // all categories, these images only

  static constexpr int thresholds = 10, areas = 4;

 private:
  // One image and category in one area range. Detections are in descending score, cut to the last limit.
  struct Matches {
    std::vector<double> scores;
    std::vector<uint16_t> matched, ignored;  // bit t: at threshold t
    int64_t positives = 0;                   // true objects that count
    bool empty = true;                       // neither objects nor detections
  };

  void match_image(const CocoImage& image, size_t index);
  void match_category(std::span<const CocoTruth* const> truth, std::span<const CocoDetection* const> detections,
                      Matches* results) const;
  CocoSummary summarize(std::span<const int> images, int first_category, int last_category) const;
  const Matches& at(int image, int category, int area) const {
    return matches_[(size_t(image) * size_t(categories_) + size_t(category)) * areas + size_t(area)];
  }

  int images_, categories_;
  IouKind kind_;
  std::array<int, 3> limits_;
  std::vector<Matches> matches_;
};

}  // namespace glia
