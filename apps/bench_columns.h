#pragma once
#include <filesystem>
#include <string>
#include <vector>

#include "apps/segmentation.h"

namespace glia {

struct ColumnsOptions {
  std::filesystem::path checkpoint;
  std::string data;  // a data set, with its instances
  DataOptions data_options{};
  std::vector<std::string> settings{};  // --set's
  std::filesystem::path json{};         // "": none
  bool quiet = false;
};

// For each value of model.prune of a trained UNet++: map_iou and F1 at IoU .5 over the data, operations and time of an image, as a table and as
// JSON. UsageError for another network, or one without deep supervision; otherwise throws as load_system, open_data and evaluate.
void compare_columns(const ColumnsOptions& options, Device device);

}  // namespace glia
