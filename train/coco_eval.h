#pragma once
// COCO's average precision and recall, equal to pycocotools' COCOeval for boxes and masks. Constants: IoU thresholds .50:.05:.95,
// recall grid 0:.01:1.
#include <array>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "data/instance.h"

namespace glia {

// What differs between the evaluations of data sets: which detections count, and what small, medium and large mean (pixels; both ends
// belong to a range).
struct CocoProtocol {
  std::array<int, 3> max_detections{1, 10, 100};  // per image and category, ascending: AR at each, everything else at the last
  std::array<std::pair<double, double>, 3> sizes{{{0, 32. * 32}, {32. * 32, 96. * 96}, {96. * 96, 1e10}}};
};
// LIVECell's (Edlund et al. 2021): cells are small and many.
inline constexpr CocoProtocol livecell_protocol{{100, 500, 2000}, {{{0, 324}, {324, 961}, {961, 1e10}}}};

struct CocoTruth {
  const Rle* mask = nullptr;  // segm only; not owned, needed by the constructor of CocoEvaluator alone
  Box box{};
  int category = 0;
  bool crowd = false;  // detections on it are neither right nor wrong
  double area = 0;     // that decides the size class; COCO files state it
};

struct CocoDetection {
  const Rle* mask = nullptr;
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

// The curves behind the numbers: all sizes, the last detection limit.
struct CocoCurves {
  static constexpr int recall_levels = 101;  // 0, .01, ... 1
  // Precision by recall, mean over the categories that have objects; empty where none has.
  std::vector<double> precision_50, precision_75, precision_mean;  // at IoU .50, .75; mean over .50:.05:.95

  // Counts at IoU .50, added up over the categories, of the detections whose score is at least the threshold. The thresholds are
  // 0, .01, ... 1, or 101 steps from the lowest to the highest score where one lies outside of 0..1.
  std::vector<double> thresholds, precision, recall, f1;
  double best_threshold = 0, best_f1 = -1;  // over every score that occurs; -1: no objects or no detections
};

enum class IouKind { bbox, segm };

class CocoEvaluator {
 public:
  // Matches every image at once, in parallel; images in the order of their ids. Throws DataError where masks of one image differ
  // in size and for a score that is not a finite number, InternalError for a category outside [0, num_categories).
  CocoEvaluator(std::span<const CocoImage> images, int num_categories, IouKind kind, const CocoProtocol& protocol = {});

  CocoSummary summary() const;
  CocoSummary of_category(int category) const;
  CocoSummary of_images(std::span<const int> images) const;  // all categories, these images only

  CocoCurves curves() const;
  CocoCurves curves_of_category(int category) const;
  CocoCurves curves_of_images(std::span<const int> images) const;

  static constexpr int thresholds = 10, areas = 4;  // areas: all, small, medium, large

 private:
  // One image and category in one area range. Detections are in descending score, cut to the last limit.
  struct Matches {
    std::vector<double> scores;
    std::vector<uint16_t> matched, ignored;  // bit t: at threshold t
    int64_t positives = 0;                   // true objects that count
  };
  struct Entry {
    double score;
    uint16_t matched, ignored;
  };
  // Detections of several images in descending score, and the objects there are to find.
  struct Ranking {
    std::vector<Entry> entries;
    int64_t positives = 0;
  };
  struct Selection {
    std::span<const int> images;
    int first_category, last_category;
  };

  void match_image(const CocoImage& image, size_t index);
  void match_category(std::span<const CocoTruth* const> truth, std::span<const CocoDetection* const> detections,
                      Matches* results) const;
  void rank(Ranking& ranking, std::span<const int> images, int category, int area, int limit) const;
  CocoSummary summarize(const Selection& of) const;
  CocoCurves draw(const Selection& of) const;
  const Matches& at(int image, int category, int area) const {
    return matches_[(size_t(image) * size_t(categories_) + size_t(category)) * areas + size_t(area)];
  }

  int images_, categories_;
  IouKind kind_;
  CocoProtocol protocol_;
  std::vector<Matches> matches_;
  std::vector<int> all_;  // 0, 1, ...: every image
};

}  // namespace glia
