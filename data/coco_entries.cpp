// Entries of COCO JSON into samples, categories and instances.
#include "data/coco_entries.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>

#include "data/image_io.h"
#include "data/polygon.h"
#include "data/rle.h"

namespace glia {
namespace {

bool is_whole_number(const std::string& text) {
  return !text.empty() && text.find_first_not_of("0123456789", text[0] == '-') == std::string::npos;
}

}  // namespace

CocoBuilder::CocoBuilder(std::string file, Faults& faults, const CocoLimits& limits, const Dataset& truth)
    : CocoBuilder(std::move(file), faults, limits) {
  results_ = true;
  truth_ = &truth;
  result.dataset.categories = truth.categories;
  result.dataset.category_ids = truth.category_ids;
  for (size_t i = 0; i < truth.categories.size(); ++i) {
    categories_[std::to_string(truth.category_ids.empty() ? static_cast<int64_t>(i) + 1 : truth.category_ids[i])] =
        static_cast<int>(i);
  }
  for (size_t i = 0; i < truth.samples.size(); ++i) {
    const Sample& s = truth.samples[i];
    result.dataset.samples.push_back({s.id, s.file, s.height, s.width, {}, s.source_id});
    if (!s.source_id.empty()) images_.emplace(s.source_id, i);
    truth_images_.emplace(s.id, i);
  }
  for (size_t i = 0; i < truth.samples.size(); ++i) images_.emplace(truth.samples[i].id, i);
  for (size_t i = 0; i < truth.samples.size(); ++i) {
    if (truth.samples[i].source_id.empty()) images_.emplace(std::to_string(i + 1), i);
  }
}

void CocoBuilder::add_image(CocoEntry& e, int64_t index) {
  const std::string where = fmt::format("images[{}]", index);
  if (!e.wrong.empty()) return stop("wrong type in the JSON", where + ": " + e.wrong);
  if (e.id.empty()) return stop("image without id", where + ": no id");
  const double pixels = e.width * e.height;
  if (!(e.width >= 1 && e.height >= 1 && pixels <= static_cast<double>(limits_.pixels) && e.width == std::floor(e.width) &&
        e.height == std::floor(e.height))) {
    return stop("impossible image size",
                fmt::format("{} (id {}): width {} and height {}, want whole numbers from 1, at most {} pixels in all{}", where,
                            e.id, e.width, e.height, limits_.pixels, raise_hint("pixels")));
  }
  const std::string name = e.file_name.empty() ? e.id : std::filesystem::path(e.file_name).stem().string();
  if (!images_.emplace(e.id, result.dataset.samples.size()).second) {
    return stop("image id twice", fmt::format("{}: image id {} occurs twice", where, e.id));
  }
  if (!names_.insert(name).second) stop("image name twice", fmt::format("{}: image '{}' occurs twice", where, name));
  result.dataset.samples.push_back({name, {}, static_cast<int64_t>(e.height), static_cast<int64_t>(e.width), {}, e.id});
  result.file_names.push_back(e.file_name);
}

void CocoBuilder::add_category(const CocoEntry& e, int64_t index) {
  const std::string where = fmt::format("categories[{}]", index);
  if (!e.wrong.empty()) return stop("wrong type in the JSON", where + ": " + e.wrong);
  char* end = nullptr;
  const int64_t id = std::strtoll(e.id.c_str(), &end, 10);
  if (e.id.empty() || *end != '\0')
    return stop("category without id", fmt::format("{}: id '{}', want a whole number", where, e.id));
  if (!categories_.emplace(e.id, static_cast<int>(result.dataset.categories.size())).second) {
    return stop("category id twice", fmt::format("{}: category id {} occurs twice", where, e.id));
  }
  result.dataset.categories.push_back(e.name.empty() ? e.id : e.name);
  result.dataset.category_ids.push_back(id);
}

// A result's text is the file name or its stem, or an id that is itself no number: an image named "1" is not the image with id 1.
std::optional<size_t> CocoBuilder::image_of(const CocoEntry& e) const {
  const auto look_up = [](const std::unordered_map<std::string, size_t>& images, const std::string& name) {
    const auto found = images.find(name);
    return found == images.end() ? std::nullopt : std::optional(found->second);
  };
  if (!results_ || !e.image_is_text) return look_up(images_, e.image_id);
  const std::filesystem::path file = e.image_id;
  std::optional<size_t> image = look_up(truth_images_, e.image_id);
  if (!image && has_image_extension(file)) image = look_up(truth_images_, file.stem().string());
  if (!image && !is_whole_number(e.image_id)) image = look_up(images_, e.image_id);
  return image;
}

void CocoBuilder::add_annotation(CocoEntry& e, int64_t index) {
  ++result.annotations;
  const std::string where =
      results_ ? fmt::format("entry {}", index) : fmt::format("annotation {}", e.id.empty() ? fmt::format("[{}]", index) : e.id);
  if (!e.wrong.empty()) return stop("wrong type in the JSON", where + ": " + e.wrong);
  if (e.image_id.empty()) return stop("annotation without image", where + " has no image_id");
  const std::optional<size_t> image = image_of(e);
  if (!image) {
    return stop(
        "annotation without image",
        results_ && e.image_is_text
            ? fmt::format("{}: image_id \"{}\" is text, so a file name, and the truth has no such image", where, e.image_id)
            : fmt::format("{}: image id '{}' is not in the {}", where, e.image_id, results_ ? "truth" : "file"));
  }
  Sample& sample = result.dataset.samples[*image];
  if (!results_ && !e.id.empty() && !annotation_ids_.insert(e.id).second) {
    return stop("annotation id twice", fmt::format("{} of image '{}': the id occurs twice", where, sample.id));
  }
  const std::optional<int> category = category_of(e, where + " of image '" + sample.id + "'");
  if (!category) return;
  if (results_ && !std::isfinite(e.score))
    return stop("result without score", fmt::format("{} of image '{}': no finite score", where, sample.id));
  if (static_cast<int64_t>(sample.instances.size()) >= limits_.instances) {
    return stop("too many instances",
                fmt::format("image '{}' has more than {} instances{}", sample.id, limits_.instances, raise_hint("instances")));
  }

  Instance instance;
  instance.category = *category;
  instance.crowd = e.crowd;
  instance.area = e.area;
  if (results_) instance.score = e.score;
  if (!make_mask(e, sample, where + " of image '" + sample.id + "'", instance.mask)) return;
  instance.box = box_of(e, instance.mask, where + " of image '" + sample.id + "'");
  sample.instances.push_back(std::move(instance));
}

// The entry's own box where it can be one, else the mask's.
Box CocoBuilder::box_of(const CocoEntry& e, const Rle& mask, const std::string& where) {
  const Box tight = bounding_box(mask);
  if (!e.has_box) return tight;
  const auto warn = [&](std::string_view kind, const std::string& why) {
    faults_.add(Severity::warn, kind, fmt::format("{}: {}: bbox [{}] {}", file_, where, fmt::join(e.box, ", "), why));
  };
  const bool four = e.box.size() == 4 && std::all_of(e.box.begin(), e.box.end(), [](double v) { return std::isfinite(v); });
  if (results_ && !four) return tight;
  if (!results_ && (!four || e.box[2] <= 0 || e.box[3] <= 0)) {
    warn("box that is none", "is not x, y and a positive width and height: the mask's box is taken");
    return tight;
  }
  const Box box{e.box[0], e.box[1], e.box[2], e.box[3]};
  if (results_ || e.crowd) return box;
  double apart = 0;  // how far the furthest side is off
  for (size_t i : {0u, 1u})
    apart = std::max({apart, std::abs(box[i] - tight[i]), std::abs(box[i] + box[i + 2] - tight[i] - tight[i + 2])});
  if (apart > 2 && iou(box, tight) < 0.5)
    warn("box far from its mask",
         fmt::format("but the mask lies in [{}]; the box is taken as it is (corners instead of x, y, width, height?)",
                     fmt::join(tight, ", ")));
  return box;
}

// Its index; nothing after a fault. A result's name counts more than its id, which is the predicting system's own.
std::optional<int> CocoBuilder::category_of(const CocoEntry& e, const std::string& where) {
  const auto refuse = [&](const std::string& got) {
    stop("category out of range", fmt::format("{}: category {}, want one of {}", where, got, allowed_categories()));
    return std::nullopt;
  };
  std::optional<int> category;
  if (results_ && !e.category_name.empty()) {
    const std::vector<std::string>& names = truth_->categories;
    const auto found = std::find(names.begin(), names.end(), e.category_name);
    if (found != names.end()) category = static_cast<int>(found - names.begin());
  } else if (const auto found = categories_.find(e.category_id); found != categories_.end()) {
    category = found->second;
  }
  if (results_ && !category) {
    category = unknown_category(e);
  } else if (category) {
    classified_ = true;
    if (!unknown_.empty() && truth_->categories.size() > 1) return refuse("'" + unknown_ + "' beside others");
    if (!unknown_.empty()) result.dataset.categories = {"unclassified"};
  }
  if (category) return category;
  if (results_ && !e.category_name.empty()) return refuse("'" + e.category_name + "'");
  return refuse(e.category_id.empty() ? "missing" : e.category_id);
}

// Results of a category that the truth lacks are unclassified, which a data set of one foreign category says. Allowed where all results
// have one name (a system that finds cells, a truth of cell types), and for any where the truth has but one category.
std::optional<int> CocoBuilder::unknown_category(const CocoEntry& e) {
  const std::string& name = e.category_name.empty() ? e.category_id : e.category_name;
  const bool single = truth_->categories.size() <= 1;
  if (name.empty() || (!single && (e.category_name.empty() || classified_ || (!unknown_.empty() && unknown_ != name))))
    return std::nullopt;
  if (unknown_.empty()) {
    if (single) {
      faults_.add(Severity::warn, "category that the truth lacks",
                  fmt::format("{}: category '{}' is not in the truth, which has {}: all predictions count as unclassified", file_,
                              name, allowed_categories()));
    }
    unknown_ = name;
    result.dataset.categories = {classified_ ? "unclassified" : name};
    result.dataset.category_ids.clear();
  } else if (unknown_ != name) {
    result.dataset.categories = {"unclassified"};
  }
  return 0;
}

std::string CocoBuilder::allowed_categories() const {
  const std::vector<std::string>& names = truth_ ? truth_->categories : result.dataset.categories;
  const std::vector<int64_t>& ids = truth_ ? truth_->category_ids : result.dataset.category_ids;
  std::string list;
  for (size_t i = 0; i < names.size() && i < 20; ++i)
    list += fmt::format("{}{} ({})", i ? ", " : "", ids.empty() ? static_cast<int64_t>(i) + 1 : ids[i], names[i]);
  return list.empty() ? (truth_ ? "no categories" : "none: the file has no categories") : list;
}

// False: the instance is left out, and `faults_` knows why.
bool CocoBuilder::make_mask(CocoEntry& e, const Sample& sample, const std::string& where, Rle& mask) {
  const auto drop = [&](std::string_view kind, const std::string& why) {
    faults_.add(Severity::drop, kind, fmt::format("{}: {}: {}", file_, where, why));
  };
  const int64_t h = sample.height, w = sample.width;
  try {
    switch (e.form) {
      case MaskForm::polygons: {
        std::vector<Polygon> usable;
        for (Polygon& p : e.polygons) {
          const bool finite = std::all_of(p.begin(), p.end(), [](double v) { return std::isfinite(v); });
          if (p.size() % 2) {
            drop("polygon with an odd number of values", fmt::format("{} numbers, want x0, y0, x1, y1, ...", p.size()));
          } else if (p.size() < 6) {
            drop("polygon of fewer than 3 points",
                 fmt::format("{} numbers, want x0, y0, x1, y1, ... of at least 3 points", p.size()));
          } else if (!finite) {
            drop("polygon with NaN", "a coordinate is not finite");
          } else {
            usable.push_back(std::move(p));
          }
        }
        if (e.polygons.empty()) drop("empty mask", "an empty list of polygons");
        if (usable.empty()) return false;
        mask = rle_from_polygons(usable, h, w);
        break;
      }
      case MaskForm::counts:
      case MaskForm::text:
        if (e.size.size() != 2 || e.size[0] != h || e.size[1] != w) {
          const bool swapped = e.size.size() == 2 && e.size[0] == w && e.size[1] == h;
          stop("mask size is not the image's",
               fmt::format("{}: the mask has size [{}], the image height {}, width {}{}", where, fmt::join(e.size, ", "), h, w,
                           swapped ? " (height and width swapped?)" : ""));
          return false;
        }
        mask = e.form == MaskForm::counts ? rle_from_counts(e.counts, h, w) : rle_from_coco_string(e.text, h, w);
        break;
      case MaskForm::none:
        if (e.box.size() != 4) {
          drop("annotation without segmentation", "neither segmentation nor bbox");
          return false;
        }
        if (!results_)
          faults_.add(Severity::warn, "box without segmentation", fmt::format("{}: {}: the mask is the box", file_, where));
        mask = rle_from_box({e.box[0], e.box[1], e.box[2], e.box[3]}, h, w);
    }
  } catch (const DataError& error) {
    if (e.form == MaskForm::polygons || e.form == MaskForm::none) {
      drop("polygon that cannot be drawn", error.what());
    } else {
      stop("run lengths that do not fit", where + ": " + error.what());
    }
    return false;
  }
  if (!results_ && area(mask) == 0) {
    drop("empty mask", e.form == MaskForm::polygons ? "the polygon covers no pixel of the image" : "the mask has no pixel");
    return false;
  }
  return true;
}

}  // namespace glia
