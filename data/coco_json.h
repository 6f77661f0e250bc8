#pragma once
// COCO JSON, read as a stream (memory: the masks and a buffer, never the text) and written. Both kinds of file:
//   data set   {"images": [...], "annotations": [...], "categories": [...]}, the three in any order
//   results    [{"image_id", "category_id", "segmentation" and/or "bbox", "score"}, ...]
// Segmentations: polygons, uncompressed and compressed run lengths (column-major).
#include <filesystem>
#include <string>
#include <vector>

#include "data/faults.h"
#include "data/instance.h"
#include "data/limits.h"

namespace glia {

struct CocoLimits {
  int depth = static_cast<int>(file_limits().json_depth);                 // of nested arrays and objects
  size_t string_bytes = static_cast<size_t>(file_limits().string_bytes);  // of one string
  int64_t instances = file_limits().instances;                            // of one image
  int64_t pixels = file_limits().pixels;                                  // of one image
};

// Samples in the order of "images"; id = file_name without folder and ending, file empty (data/dataset.h finds it). Categories in the
// order of "categories". Throws IoError where the file can't be read. Through `faults` (see faults.h) go
//   stop: no JSON, no COCO, wrong types, limits; an image id, annotation id or image name twice; an annotation's image or category
//         that does not exist; a mask whose size is not the image's; run lengths that do not fit
//   drop: polygons of fewer than 3 points, with NaN, or outside the image; empty masks and boxes
//   warn: an annotation with a box but no segmentation (its mask is the box); a box that is none, or far from its mask
// The three lists may also be objects whose values are the entries; their keys mean nothing.
struct CocoFile {
  Dataset dataset;
  std::vector<std::string> file_names;  // of the samples, as in the file
  int64_t annotations = 0;              // entries, whether they became instances or not
};
CocoFile read_coco(const std::filesystem::path& path, Faults& faults, const CocoLimits& limits = {});
// "images" alone: the other lists may lack, and are not looked at.
CocoFile read_coco_images(const std::filesystem::path& path, Faults& faults, const CocoLimits& limits = {});

// Whether the file's first character other than white space opens a list: a results file rather than a data set.
bool is_coco_results(const std::filesystem::path& path);

// Detections for the images of `truth`. An image_id that is a number is the truth's source_id, else its sample id, else the 1-based
// position; one that is text is the image's file name or sample id, else a source_id that is no number. Categories by category_name,
// else by the truth's ids. Samples and categories are those of `truth`, in its order; but results of categories that the truth lacks
// have one other category, "unclassified" or what all of them are called (warn where the truth has but one category; where it has several,
// such results must all have one category_name). stop: an unknown image or category, a mask of another size; the masks' own faults as
// above, but empty masks stay.
Dataset read_coco_results(const std::filesystem::path& path, const Dataset& truth, Faults& faults, const CocoLimits& limits = {});

enum class CocoMasks { compressed, counts };  // run lengths as one string, or as a list of numbers

// Image ids 1, 2, ... in the order of the samples, annotation ids 1, 2, ... in the order of the instances, category ids 1, 2, ...
// unless the data set has its own. Whole or not at all (data/atomic_file.h). Scores are written where `scores`.
struct CocoWriteOptions {
  CocoMasks masks = CocoMasks::compressed;
  bool scores = false;
};
void write_coco(const std::filesystem::path& path, const Dataset& dataset, const CocoWriteOptions& options = {});
// image_id: the sample's source_id where it has one (a number where it is one), else its id.
void write_coco_results(const std::filesystem::path& path, const Dataset& predictions, CocoMasks masks = CocoMasks::compressed);

}  // namespace glia
