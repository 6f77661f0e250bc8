#pragma once
// From what a detector found to what is handed in: score thresholds and smallest sizes by class, and no pixel in two instances.
#include <span>
#include <vector>

#include "data/instance.h"

namespace glia {

// Lists hold one number per class (Dataset::categories), or one for all classes; empty: 0. The defaults change nothing but the order.
struct Selection {
  std::vector<double> thresholds{};  // instances with a lower score are left out
  std::vector<int64_t> min_sizes{};  // pixels; smaller instances are left out (after overlaps were removed)
  bool class_of_image = false;       // the class whose numbers count is the most frequent one among all instances of the image
  bool remove_overlaps = false;      // pixels belong to the instance with the highest score
};

// By falling score (equal ones in the given order): an instance below its threshold is skipped; it loses the pixels that are taken;
// with fewer than its smallest size left it is skipped and takes none; else it takes them. As the public notebooks of Kaggle's Sartorius do it.
// Work and memory: the image once, and the masks' areas. Masks that lost pixels get tight boxes; others keep theirs.
// Masks are of one size. UsageError (naming `eval.class_thresholds`, `eval.min_sizes`) where a list is too short for a class that occurs.
std::vector<Instance> select_instances(std::span<const Instance> instances, const Selection& selection);

// Of equal counts the first class; 0 where there is no instance.
int most_frequent_class(std::span<const Instance> instances);

}  // namespace glia
