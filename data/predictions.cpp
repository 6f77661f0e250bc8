// Predictions of any kind, put beside the truth.
#include <fmt/ranges.h>

#include <algorithm>
#include <unordered_map>

#include "data/coco_json.h"
#include "data/csv.h"
#include "data/dataset.h"
#include "data/layout.h"
#include "data/sartorius.h"

namespace glia {
namespace fs = std::filesystem;

namespace {

Dataset empty_copy(const Dataset& truth) {
  Dataset copy{truth.categories, {}, truth.category_ids};
  for (const Sample& s : truth.samples) copy.samples.push_back({s.id, s.file, s.height, s.width, {}, s.source_id});
  return copy;
}

// Samples read on their own to those of the truth, by id; sizes must agree.
void match(Dataset& predictions, std::vector<Sample> samples, const std::string& from, Faults& faults) {
  std::unordered_map<std::string, size_t> index;
  for (size_t i = 0; i < predictions.samples.size(); ++i) index.emplace(predictions.samples[i].id, i);
  for (Sample& s : samples) {
    const auto found = index.find(s.id);
    if (found == index.end()) {
      faults.add(Severity::stop, "prediction for an unknown image",
                 fmt::format("{}: image '{}' is not in the truth", from, s.id));
      continue;
    }
    Sample& target = predictions.samples[found->second];
    if (s.height != target.height || s.width != target.width) {
      faults.add(Severity::stop, "prediction of another size",
                 fmt::format("{}: image '{}': the prediction is {} x {} (height x width), the truth {} x {}", from, s.id,
                             s.height, s.width, target.height, target.width));
      continue;
    }
    target.instances = std::move(s.instances);
  }
}

// Files without categories: where the truth has several, these predictions have one of their own (see train/evaluation.h).
void make_unclassified(Dataset& predictions) {
  if (predictions.categories.size() < 2) return;
  predictions.categories = {"unclassified"};
  predictions.category_ids.clear();
}

fs::path file_in(const fs::path& folder) {
  std::error_code error;
  for (const char* name : {prediction_files::coco, prediction_files::labels, prediction_files::submission}) {
    if (fs::exists(folder / name, error)) return folder / name;
  }
  std::vector<fs::path> json;
  for (const auto& entry : fs::directory_iterator(folder, error)) {
    if (entry.path().extension() == ".json") json.push_back(entry.path());
  }
  if (json.size() == 1) return json[0];
  return folder;
}

Dataset from_coco(const fs::path& path, const Dataset& truth, Faults& faults) {
  if (is_coco_results(path)) return read_coco_results(path, truth, faults);
  CocoFile file = read_coco(path, faults);
  bool warned = false;
  Dataset predictions = empty_copy(truth);
  std::vector<int> category;  // of the file's to the truth's, by name
  for (const std::string& name : file.dataset.categories) {
    const auto found = std::find(truth.categories.begin(), truth.categories.end(), name);
    category.push_back(static_cast<int>(found - truth.categories.begin()));
    if (found == truth.categories.end()) {
      category.back() = 0;
      const std::string where = fmt::format("{}: category '{}' is not in the truth, which has {}", path.string(), name,
                                            fmt::join(truth.categories, ", "));
      if (truth.categories.size() > 1) {
        faults.add(Severity::stop, "category out of range", where);
      } else if (!warned) {
        faults.add(Severity::warn, "category that the truth lacks", where + ": all predictions count as unclassified");
        warned = true;
      }
    }
  }
  for (Sample& s : file.dataset.samples) {
    for (Instance& i : s.instances) i.category = category[static_cast<size_t>(i.category)];
  }
  match(predictions, std::move(file.dataset.samples), path.string(), faults);
  return predictions;
}

}  // namespace

Dataset open_predictions(const fs::path& path, const Dataset& truth, const DatasetOptions& options, Faults* given) {
  Faults own;
  Faults& faults = given ? *given : own;
  std::error_code error;
  if (!fs::exists(path, error)) throw DataError("{}: no such file or folder", path.string());
  const fs::path file = fs::is_directory(path, error) ? file_in(path) : path;
  Dataset predictions;
  if (fs::is_directory(file, error)) {
    const auto maps = images_in(file, faults);
    if (maps.empty()) {
      throw DataError("{}: no predictions; want a folder that predict wrote ({}, {}/ or {}), or one of label maps", path.string(),
                      prediction_files::coco, prediction_files::labels, prediction_files::submission);
    }
    predictions = empty_copy(truth);
    match(predictions, read_label_maps(maps, {options.connected_components, options.skip_corrupt, options.limits}, faults),
          file.string(), faults);
    make_unclassified(predictions);
  } else if (file.extension() == ".json") {
    predictions = from_coco(file, truth, faults);
  } else if (file.extension() == ".csv") {
    predictions = read_submission(file, truth, faults);
    if (!CsvReader(file).has("cell_type")) make_unclassified(predictions);
  } else {
    throw DataError("{}: want a COCO .json, a submission .csv, or a folder of label maps", file.string());
  }
  for (const Sample& s : predictions.samples) {
    if (s.instances.empty())
      faults.add(Severity::warn, "image without prediction", fmt::format("image '{}': no detection", s.id));
  }
  return predictions;
}

}  // namespace glia
