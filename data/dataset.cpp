// Opens data sets: annotations by layout, then image files found and checked by their headers.
#include "data/dataset.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <optional>

#include "data/coco_json.h"
#include "data/layout.h"
#include "data/rle.h"
#include "data/sartorius.h"
#include "tensor/parallel.h"

namespace glia {
namespace fs = std::filesystem;

namespace {

// The folder in which the images of a COCO file lie: --images, or the first of the usual places that has one of them.
fs::path coco_image_folder(const DataSource& source, const std::vector<std::string>& names) {
  if (!source.images.empty()) return source.images;
  const fs::path folder = source.annotations.parent_path().empty() ? fs::path(".") : source.annotations.parent_path();
  std::string stem = source.annotations.stem().string();
  if (stem.starts_with("instances_")) stem.erase(0, 10);
  std::error_code error;
  for (const fs::path& candidate : {folder, folder / "images", folder / "train", folder / stem, folder / ".." / "images",
                                    folder / ".." / "train", folder / ".." / stem}) {
    if (!fs::is_directory(candidate, error)) continue;
    for (size_t i = 0; i < std::min<size_t>(names.size(), 20); ++i) {
      if (!names[i].empty() && fs::is_regular_file(candidate / names[i], error)) return candidate;
    }
  }
  return folder;
}

// Files in the folders within `root`, by name; several of one name: an empty path.
std::map<std::string, fs::path> files_one_folder_down(const fs::path& root) {
  std::map<std::string, fs::path> files;
  std::error_code error;
  for (fs::directory_iterator folder(root, error), end; !error && folder != end; folder.increment(error)) {
    if (!folder->is_directory(error)) continue;
    for (fs::directory_iterator file(folder->path(), error); !error && file != end; file.increment(error)) {
      const auto [there, added] = files.emplace(file->path().filename().string(), file->path().lexically_relative(root));
      if (!added) there->second.clear();
    }
  }
  return files;
}

// Names of files, as the annotations give them, to files; samples without one are left out after a fault. What does not lie in `root`
// is looked for one folder further down (LIVECell's copies have one per cell type).
void attach_files(Dataset& dataset, std::vector<std::string> names, const fs::path& root, const DatasetOptions& options,
                  Faults& faults) {
  std::vector<Sample> kept;
  std::optional<std::map<std::string, fs::path>> further;
  for (size_t i = 0; i < dataset.samples.size(); ++i) {
    Sample& sample = dataset.samples[i];
    const std::string& name = names[i].empty() ? sample.id : names[i];
    Found found = find_inside(root, name, options.allow_outside, sample.file);
    if (found == Found::missing) {
      if (!further) further = files_one_folder_down(root);
      const auto there = further->find(name);
      if (there != further->end() && there->second.empty()) {
        faults.add(Severity::stop, "image name twice",
                   fmt::format("image '{}': in several folders of {}; name one of them with --images", name, root.string()));
        continue;
      }
      if (there != further->end()) found = find_inside(root, there->second.string(), options.allow_outside, sample.file);
    }
    if (found == Found::outside) {
      faults.add(Severity::stop, "name that leads outside",
                 fmt::format("image '{}': the file leads out of {}; --allow-outside permits links and names that do", name,
                             root.string()));
    } else if (found == Found::missing) {
      faults.add(options.skip_corrupt ? Severity::drop : Severity::stop, "missing image",
                 fmt::format("image '{}': no such file in {}; --images DIR names the folder (predict: --image-folder DIR)", name,
                             root.string()));
    } else {
      kept.push_back(std::move(sample));
    }
  }
  dataset.samples = std::move(kept);
}

struct HeaderCheck {
  ImageFacts facts;
  std::string error;
};

// Every image's header: readable, of the annotated size, one page, and all of one number of channels (other numbers are `mixed`). Sizes
// that are not known yet (0) are filled in.
void check_headers(Dataset& dataset, const DatasetOptions& options, Faults& faults, Severity mixed = Severity::stop) {
  std::vector<HeaderCheck> checks(dataset.samples.size());
  parallel_for(static_cast<int64_t>(checks.size()), 4, [&](int64_t begin, int64_t end) {
    for (size_t i = static_cast<size_t>(begin); i < static_cast<size_t>(end); ++i) {
      try {
        checks[i].facts = read_image_facts(dataset.samples[i].file, options.limits);
      } catch (const Error& error) {
        if (error.code() == ExitCode::out_of_memory) throw;
        checks[i].error = error.what();
      }
    }
  });
  std::vector<Sample> kept;
  int64_t channels = 0;
  std::string first;
  for (size_t i = 0; i < checks.size(); ++i) {
    Sample& sample = dataset.samples[i];
    const ImageFacts& facts = checks[i].facts;
    if (!checks[i].error.empty()) {
      faults.add(options.skip_corrupt ? Severity::drop : Severity::stop, "image that cannot be read", checks[i].error);
      continue;
    }
    if (facts.pages != 1) {
      faults.add(
          Severity::stop, "image of several pages",
          fmt::format("{}: {} pages, want one image: save each page to a file of its own", sample.file.string(), facts.pages));
      continue;
    }
    if (sample.height == 0) sample.height = facts.height, sample.width = facts.width;
    if (facts.height != sample.height || facts.width != sample.width) {
      const bool swapped = facts.height == sample.width && facts.width == sample.height;
      faults.add(options.skip_size_mismatch ? Severity::drop : Severity::stop, "image size is not the annotation's",
                 fmt::format("{}: the image is {} x {} (height x width), its annotation says {} x {}{}; --on-size-mismatch skip "
                             "leaves such images out",
                             sample.file.string(), facts.height, facts.width, sample.height, sample.width,
                             swapped ? " (height and width swapped?)" : ""));
      continue;
    }
    if (channels == 0) channels = facts.channels, first = sample.id;
    if (facts.channels != channels) {
      faults.add(mixed, "mixed channel counts",
                 fmt::format("{}: {} channel{}, but image '{}' has {}; better convert them to one kind", sample.file.string(),
                             facts.channels, facts.channels == 1 ? "" : "s", first, channels));
    }
    kept.push_back(std::move(sample));
  }
  dataset.samples = std::move(kept);
}

// Images of the folder that have no annotation: negatives.
void add_unannotated(Dataset& dataset, const fs::path& folder, Faults& faults) {
  std::map<std::string, fs::path> files = images_in(folder, faults);
  for (const Sample& s : dataset.samples) files.erase(s.id);
  for (const auto& [id, file] : files) {
    dataset.samples.push_back({id, file, 0, 0, {}, {}});
    faults.add(Severity::note, "image without annotation", fmt::format("image '{}': kept as an image without cells", id));
  }
}

Dataset open_label_maps(const DataSource& source, const DatasetOptions& options, Faults& faults) {
  std::map<std::string, fs::path> maps = images_in(source.labels, faults), images;
  if (options.need_images || !source.images.empty()) images = images_in(source.images, faults);
  if (source.layout == Layout::pairs) {  // one folder: NAME_masks beside NAME or NAME_img
    std::map<std::string, fs::path> named_maps, named_images;
    const auto strip = [](const std::string& text, std::string_view ending) {
      return text.substr(0, text.size() - ending.size());
    };
    for (const auto& [stem, file] : maps) {
      if (stem.ends_with("_masks")) named_maps[strip(stem, "_masks")] = file;
    }
    for (const auto& [stem, file] : images) {
      if (!stem.ends_with("_masks")) named_images[stem.ends_with("_img") ? strip(stem, "_img") : stem] = file;
    }
    maps = std::move(named_maps), images = std::move(named_images);
  }
  Dataset dataset{
      {"cell"}, read_label_maps(maps, {options.connected_components, options.skip_corrupt, options.limits}, faults), {}};
  if (!options.need_images) return dataset;
  std::vector<Sample> kept;
  for (Sample& sample : dataset.samples) {
    const auto image = images.find(sample.id);
    if (image == images.end()) {
      faults.add(options.skip_corrupt ? Severity::drop : Severity::stop, "missing image",
                 fmt::format("label map '{}': no image of this name in {}", sample.id, source.images.string()));
      continue;
    }
    sample.file = image->second;
    kept.push_back(std::move(sample));
  }
  for (const auto& [id, file] : images) {
    if (maps.contains(id)) continue;
    faults.add(Severity::warn, "image without label map",
               fmt::format("image '{}': no label map; kept as an image without cells", id));
    kept.push_back({id, file, 0, 0, {}, {}});
  }
  std::sort(kept.begin(), kept.end(), [](const Sample& a, const Sample& b) { return a.id < b.id; });
  dataset.samples = std::move(kept);
  return dataset;
}

void drop_small(Dataset& dataset, int64_t min_area, Faults& faults) {
  if (min_area <= 0) return;
  for (Sample& sample : dataset.samples) {
    const auto dropped = std::erase_if(sample.instances, [&](const Instance& i) { return !i.crowd && area(i.mask) < min_area; });
    if (dropped) {
      faults.add(Severity::drop, "small instance",
                 fmt::format("image '{}': {} of fewer than {} pixels", sample.id, dropped, min_area),
                 static_cast<int64_t>(dropped));
    }
  }
}

}  // namespace

Dataset open_dataset(const fs::path& path, const DatasetOptions& options, Faults* given) {
  Faults own;
  Faults& faults = given ? *given : own;
  const DataSource source = recognise(path, options);
  Dataset dataset;
  std::string why;  // it may be without instances
  switch (source.layout) {
    case Layout::sartorius: {
      dataset = read_sartorius(source.annotations, faults);
      if (options.need_images) {
        attach_files(dataset, std::vector<std::string>(dataset.samples.size()), source.images, options, faults);
        if (source.annotations.filename() == "train.csv") add_unannotated(dataset, source.images, faults);
      }
      break;
    }
    case Layout::coco: {
      if (is_coco_results(source.annotations)) {
        throw DataError("{}: a list, so a COCO results file: predictions, not a data set", source.annotations.string());
      }
      CocoFile file = options.instances == Instances::unread ? read_coco_images(source.annotations, faults)
                                                             : read_coco(source.annotations, faults);
      if (file.annotations == 0) why = "annotations is empty: ";
      dataset = std::move(file.dataset);
      if (options.need_images)
        attach_files(dataset, file.file_names, coco_image_folder(source, file.file_names), options, faults);
      break;
    }
    case Layout::label_maps:
    case Layout::pairs: dataset = open_label_maps(source, options, faults); break;
  }
  if (options.need_images) check_headers(dataset, options, faults);
  drop_small(dataset, options.min_area, faults);
  const bool annotated =
      std::any_of(dataset.samples.begin(), dataset.samples.end(), [](const Sample& s) { return !s.instances.empty(); });
  if (dataset.samples.empty()) {
    faults.add(Severity::stop, "no images", fmt::format("{}: no image is left", path.string()));
  } else if (!annotated && options.instances == Instances::required) {
    faults.add(Severity::stop, "no annotation",
               fmt::format("{}: {}{} images, but not one instance", path.string(), why, dataset.samples.size()));
  }
  return dataset;
}

Dataset open_images(const std::vector<fs::path>& paths, const DatasetOptions& options, Faults* given) {
  Faults own;
  Faults& faults = given ? *given : own;
  Dataset dataset{{"cell"}, {}, {}};
  for (const fs::path& path : paths) {
    std::error_code error;
    if (!fs::exists(path, error)) throw DataError("{}: no such file or folder", path.string());
    if (!fs::is_directory(path, error) && has_image_extension(path)) {
      dataset.samples.push_back({path.stem().string(), path, 0, 0, {}, {}});
      continue;
    }
    const auto images = fs::is_directory(path, error) ? images_in(path, faults) : std::map<std::string, fs::path>();
    const bool pairs = std::any_of(images.begin(), images.end(), [](const auto& f) { return f.first.ends_with("_masks"); });
    if (!images.empty() && !pairs) {
      for (const auto& [id, file] : images) dataset.samples.push_back({id, file, 0, 0, {}, {}});
      continue;
    }
    DatasetOptions images_of = options;
    images_of.instances = Instances::unread;
    for (Sample& sample : open_dataset(path, images_of, &faults).samples) {
      sample.instances.clear();
      dataset.samples.push_back(std::move(sample));
    }
  }
  std::map<std::string, fs::path> seen;
  for (const Sample& s : dataset.samples) {
    const auto [there, added] = seen.emplace(s.id, s.file);
    if (!added && there->second == s.file) {
      faults.add(Severity::stop, "image given twice",
                 fmt::format("'{}' is given twice; two results would have one name", s.file.string()));
    } else if (!added) {
      faults.add(
          Severity::stop, "image name twice",
          fmt::format("'{}' and '{}' have one name; their results would have one too", there->second.string(), s.file.string()));
    }
  }
  check_headers(dataset, options, faults, Severity::warn);  // a network takes gray and colour images alike
  if (dataset.samples.empty()) faults.add(Severity::stop, "no images", "no image to predict on");
  return dataset;
}

Tensor read_pixels(const Sample& sample, const ImageLimits& limits) {
  Tensor pixels = read_image(sample.file, limits).pixels;
  if (pixels.rank() == 4) throw DataError("{}: {} pages, want one image", sample.file.string(), pixels.dim(0));
  if (sample.height > 0 && (pixels.dim(0) != sample.height || pixels.dim(1) != sample.width)) {
    throw DataError("{}: the image is {} x {} (height x width), its annotation says {} x {}", sample.file.string(), pixels.dim(0),
                    pixels.dim(1), sample.height, sample.width);
  }
  const auto check_finite = [&](auto values) {
    for (const auto v : values) {
      if (!std::isfinite(v)) throw DataError("{}: a pixel is NaN or infinite", sample.file.string());
    }
  };
  if (pixels.dtype() == DType::float32) check_finite(pixels.values<float>());
  if (pixels.dtype() == DType::float64) check_finite(pixels.values<double>());
  return pixels;
}

Example read_example(const Dataset& dataset, int64_t index) {
  const Sample& sample = dataset.samples.at(static_cast<size_t>(index));
  Example example;
  example.image = read_pixels(sample);
  example.labels = labels_of_instances(sample.instances, sample.height, sample.width);
  for (const Instance& instance : sample.instances) example.categories.push_back(instance.category);
  example.index = index;
  example.id = sample.id;
  return example;
}

Example read_detection_example(const Dataset& dataset, int64_t index) {
  const Sample& sample = dataset.samples.at(static_cast<size_t>(index));
  Example example;
  example.image = read_pixels(sample);
  std::copy_if(sample.instances.begin(), sample.instances.end(), std::back_inserter(example.instances),
               [](const Instance& i) { return !i.crowd; });
  example.index = index;
  example.id = sample.id;
  return example;
}

int64_t drop_unannotated(Dataset& dataset) {
  return static_cast<int64_t>(std::erase_if(dataset.samples, [](const Sample& s) {
    return std::all_of(s.instances.begin(), s.instances.end(), [](const Instance& i) { return i.crowd; });
  }));
}

std::vector<uint8_t> aspect_groups(const Dataset& dataset) {
  std::vector<uint8_t> groups;
  for (const Sample& s : dataset.samples) groups.push_back(s.width > s.height ? 0 : 1);
  return groups;
}

std::string describe_layout(const fs::path& path, const DatasetOptions& options) {
  switch (recognise(path, options).layout) {
    case Layout::sartorius: return "Sartorius CSV";
    case Layout::coco: return "COCO JSON";
    case Layout::label_maps: return "label maps";
    case Layout::pairs: return "pairs of images and label maps";
  }
  return {};
}

}  // namespace glia
