#pragma once
// What COCO JSON's lists hold, entry by entry, and how entries become a data set: everything of data/coco_json.h but the JSON.
#include <cmath>
#include <optional>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "data/coco_json.h"
#include "data/polygon.h"

namespace glia {

enum class MaskForm { none, polygons, counts, text };

// One entry of a list, as read.
struct CocoEntry {
  std::string id, image_id, category_id, file_name, name;  // ids as text, whether written as number or string
  std::string category_name;                               // results of `predict` have it beside COCO's keys
  double width = 0, height = 0, area = -1, score = NAN;
  bool crowd = false, has_box = false, image_is_text = false;  // image_is_text: image_id was written as a string
  std::vector<double> box;
  MaskForm form = MaskForm::none;
  std::vector<Polygon> polygons;
  std::vector<int64_t> counts, size;
  std::string text;
  std::string wrong;  // the first value of a wrong type
};

class CocoBuilder {
 public:
  CocoBuilder(std::string file, Faults& faults, const CocoLimits& limits)
      : file_(std::move(file)), faults_(faults), limits_(limits) {}
  // For results: images and categories of the truth.
  CocoBuilder(std::string file, Faults& faults, const CocoLimits& limits, const Dataset& truth);

  // The entry at this index of its list. What is wrong with it goes to the faults; then it is left out.
  void add_image(CocoEntry& e, int64_t index);
  void add_category(const CocoEntry& e, int64_t index);
  void add_annotation(CocoEntry& e, int64_t index);
  void stop(std::string_view kind, const std::string& message) { faults_.add(Severity::stop, kind, file_ + ": " + message); }

  CocoFile result;

 private:
  std::string allowed_categories() const;
  std::optional<size_t> image_of(const CocoEntry& e) const;
  std::optional<int> unknown_category(const CocoEntry& e);
  std::optional<int> category_of(const CocoEntry& e, const std::string& where);
  Box box_of(const CocoEntry& e, const Rle& mask, const std::string& where);
  bool make_mask(CocoEntry& e, const Sample& sample, const std::string& where, Rle& mask);

  std::string file_;
  Faults& faults_;
  CocoLimits limits_;
  bool results_ = false;
  const Dataset* truth_ = nullptr;                        // of results
  bool classified_ = false;                               // some result so far is of the truth's categories
  std::string unknown_;                                   // the first category of a result that the truth lacks
  std::unordered_map<std::string, size_t> images_;        // by id
  std::unordered_map<std::string, size_t> truth_images_;  // of results: by name
  std::unordered_map<std::string, int> categories_;
  std::unordered_set<std::string> names_;
  std::unordered_set<std::string> annotation_ids_;
};

}  // namespace glia
