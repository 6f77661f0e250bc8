#pragma once
// Data sets by path: recognises the layout, reads the annotations, finds and checks the images. Pixels are read when needed.
//
//   train.csv + train/            Sartorius (data/sartorius.h); images without a row are negatives
//   *.json (+ images)             COCO (data/coco_json.h): the file, or a folder with exactly one
//   images/ + labels/             label maps, PNG or TIFF, of the same name; also train/ + labels/ without train.csv
//   NAME.png + NAME_masks.png     pairs in one folder (also NAME_img.png), label maps as above
//
// Nothing is ever written into a data set. No name inside a data file leads out of its folder: "..", absolute names and links that
// leave it are faults (DatasetOptions::allow_outside). The image folder itself may be a link.
#include <filesystem>
#include <string>
#include <vector>

#include "data/faults.h"
#include "data/image_io.h"
#include "data/instance.h"
#include "data/loader.h"

namespace glia {

// required: a data set without any is `stop`; optional: it is not; unread: the images alone are asked for, so that COCO files need no more.
enum class Instances { required, optional, unread };

struct DatasetOptions {
  std::string layout{};               // --from: sartorius, coco or labels where a folder has several; "": by what is there
  std::filesystem::path images{};     // --images: where the images of a COCO or CSV file are
  bool connected_components = false;  // --labels connected-components: label maps are masks, each 8-connected piece an instance
  bool need_images = true;            // false: annotations only; images are neither looked for nor checked
  bool skip_corrupt = false;          // --on-corrupt skip: leave out images that are missing or cannot be read
  bool skip_size_mismatch = false;    // --on-size-mismatch skip
  bool allow_outside = false;         // names in data files may lead out of the data set's folder
  Instances instances = Instances::required;
  int64_t min_area = 0;  // pixels; smaller instances are left out
  ImageLimits limits{};
};

// Throws DataError where the path does not exist, is no data set or an ambiguous one (several COCO files: lists them). What is wrong with the data goes to the faults (data/faults.h): by default the first `stop` is thrown as DataError;
// drops and warnings stay in `faults`, where it is given, for the caller to print. Samples: CSV by first appearance, COCO in the
// file's order, folders by id as text. Empty data sets are `stop`.
Dataset open_dataset(const std::filesystem::path& path, const DatasetOptions& options = {}, Faults* faults = nullptr);

// Images without annotations, to predict on: each path an image, a folder of images, or a data set as above.
Dataset open_images(const std::vector<std::filesystem::path>& paths, const DatasetOptions& options = {},
                    Faults* faults = nullptr);

// Names of what `predict` writes into its folder, in the order open_predictions prefers them.
namespace prediction_files {
inline constexpr const char* coco = "predictions.json";
inline constexpr const char* labels = "labels";
inline constexpr const char* submission = "submission.csv";
}  // namespace prediction_files

// Predictions for the samples of `truth`, same samples and order: a folder that `predict` wrote, a COCO results file (or a whole
// COCO file, matched by image names), a submission CSV, or a folder of label maps. An image without any prediction has no
// instances and is counted in `faults` ("image without prediction"); one that truth does not have is `stop`. Scores are 1 where
// the file has none.
Dataset open_predictions(const std::filesystem::path& path, const Dataset& truth, const DatasetOptions& options = {},
                         Faults* faults = nullptr);

// (H, W, C), type as in data/image_io.h. DataError: unreadable, several pages, not of the sample's size, NaN or infinite pixels.
Tensor read_pixels(const Sample& sample, const ImageLimits& limits = {});
// Image, label map (smaller instances on top, crowds left out) and categories: what a Loader loads.
Example read_example(const Dataset& dataset, int64_t index);
// Image and instances (crowds left out; masks whole where they overlap), neither label map nor categories: for detection.
Example read_detection_example(const Dataset& dataset, int64_t index);
// Leaves out samples without an instance that is no crowd (detectron2's FILTER_EMPTY_ANNOTATIONS); returns how many. Such samples stay
// negatives where this is not called.
int64_t drop_unannotated(Dataset& dataset);
// For LoaderOptions::groups: 0 where a sample is wider than high, else 1.
std::vector<uint8_t> aspect_groups(const Dataset& dataset);

// For check-data and `convert`: what the path is, "Sartorius CSV", "COCO JSON", "label maps" or "pairs of images and label maps".
std::string describe_layout(const std::filesystem::path& path, const DatasetOptions& options = {});

}  // namespace glia
