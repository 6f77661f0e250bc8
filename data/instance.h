#pragma once
// The data model that readers, writers, models and metrics share: masks as run lengths, instances, samples, data sets.
#include <array>
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "tensor/tensor.h"

namespace glia {

// A binary mask as COCO stores it: column-major run lengths, first a run of zeros (perhaps 0 long), then alternating.
// Invariant: the counts add up to height * width. data/rle.h has the conversions.
struct Rle {
  int64_t height = 0;
  int64_t width = 0;
  std::vector<uint32_t> counts;
  bool operator==(const Rle&) const = default;
};

// x, y of the top left corner, width, height, in pixels: COCO's order.
using Box = std::array<double, 4>;

struct Instance {
  Rle mask;
  int category = 0;    // index into Dataset::categories
  double score = 1;    // predictions only
  bool crowd = false;  // COCO's iscrowd: a region to ignore
  Box box{};           // tight box of the mask unless the source gave one
  double area = -1;    // as the source gave it (COCO); negative: count the mask's pixels
};

// One image with its instances. Pixels are read when needed.
struct Sample {
  std::string id;              // file name without extension, unique in the data set
  std::filesystem::path file;  // empty where only annotations are known
  int64_t height = 0;
  int64_t width = 0;
  std::vector<Instance> instances;
  std::string source_id;  // COCO: the image id of the file it came from, as text; else empty
};

struct Dataset {
  std::vector<std::string> categories;  // names; at least one
  std::vector<Sample> samples;
  std::vector<int64_t> category_ids;  // COCO: the ids of the categories in the file; empty: 1, 2, ...
};

// A label map is a Tensor (H, W) int32: 0 is background, i + 1 the pixels of instance i. A mask is (H, W) uint8, 0 or 1. An image
// is (H, W, C), uint8 unless its reader says otherwise.

}  // namespace glia
