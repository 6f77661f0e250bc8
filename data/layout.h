#pragma once
// The layouts of data sets: which one a path is, and finding files by name within a folder. Parts of data/dataset.h.
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "data/dataset.h"

namespace glia {

enum class Layout { sartorius, coco, label_maps, pairs };

struct DataSource {
  Layout layout;
  std::filesystem::path annotations;  // the CSV or JSON file
  std::filesystem::path images;       // folder; for COCO and single CSV files found later where empty
  std::filesystem::path labels;       // folder of label maps
};

// DataError: nothing, or several things, recognised; does not exist.
DataSource recognise(const std::filesystem::path& path, const DatasetOptions& options);

// Image files of a folder by stem, sorted. Two files of one stem: `faults` stop.
std::map<std::string, std::filesystem::path> images_in(const std::filesystem::path& folder, Faults& faults);

// The file of this name in `root`, or nothing with the reason as a stop fault: the name leads outside, or there is no such file.
// Without an extension any image's will do.
enum class Found { yes, missing, outside };
Found find_inside(const std::filesystem::path& root, const std::string& name, bool allow_outside, std::filesystem::path& result);

// Label maps to samples: id, size and instances of category 0; order and ids from `files`. In parallel.
struct LabelMapOptions {
  bool connected_components = false;
  bool skip_corrupt = false;
  ImageLimits limits;
};
std::vector<Sample> read_label_maps(const std::map<std::string, std::filesystem::path>& files, const LabelMapOptions& options,
                                    Faults& faults);

}  // namespace glia
