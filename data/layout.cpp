// Recognises layouts and finds files.
#include "data/layout.h"

#include <algorithm>

namespace glia {
namespace fs = std::filesystem;

namespace {

// Lower-case extension with its dot.
std::string extension(const fs::path& path) {
  std::string text = path.extension().string();
  std::transform(text.begin(), text.end(), text.begin(),
                 [](unsigned char c) { return c < 128 ? static_cast<char>(std::tolower(c)) : static_cast<char>(c); });
  return text;
}

bool is_folder(const fs::path& path) {
  std::error_code error;
  return fs::is_directory(path, error);
}
bool is_file(const fs::path& path) {
  std::error_code error;
  return fs::is_regular_file(path, error);
}

std::vector<fs::path> sorted_entries(const fs::path& folder) {
  std::vector<fs::path> entries;
  std::error_code error;
  for (fs::directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) {
    if (it->path().filename().native().front() != '.') entries.push_back(it->path());
  }
  if (error) throw IoError("{}: cannot be listed: {}", folder.string(), error.message());
  std::sort(entries.begin(), entries.end());
  return entries;
}

bool is_mask_name(const fs::path& path) { return has_image_extension(path) && path.stem().string().ends_with("_masks"); }

bool may_be(const char* layout, const DatasetOptions& options) { return options.layout.empty() || options.layout == layout; }

DataSource recognise_folder(const fs::path& path, const DatasetOptions& options) {
  std::vector<fs::path> json;
  bool pairs = false;
  const auto entries = sorted_entries(path);
  for (const fs::path& entry : entries) {
    if (extension(entry) == ".json" && is_file(entry)) json.push_back(entry);
    pairs = pairs || is_mask_name(entry);
  }
  if (may_be("sartorius", options) && is_file(path / "train.csv")) {
    return {Layout::sartorius, path / "train.csv", options.images.empty() ? path / "train" : options.images, {}};
  }
  if (!may_be("coco", options)) json.clear();
  if (json.size() == 1) return {Layout::coco, json[0], options.images, {}};
  if (json.size() > 1) {
    std::string list;
    for (const fs::path& file : json) list += "\n  " + file.string();
    throw DataError("{}: several COCO files; name one of them:{}", path.string(), list);
  }
  if (may_be("labels", options) && is_folder(path / "labels")) {
    for (const char* images : {"images", "train"}) {
      if (is_folder(path / images)) return {Layout::label_maps, {}, path / images, path / "labels"};
    }
    if (!options.images.empty() || !options.need_images) return {Layout::label_maps, {}, options.images, path / "labels"};
    throw DataError("{}: has labels/, but neither images/ nor train/ with the images; --images DIR names another folder",
                    path.string());
  }
  if (may_be("labels", options) && pairs) return {Layout::pairs, {}, path, path};
  std::string got;
  for (size_t i = 0; i < entries.size() && i < 8; ++i) got += (i ? ", " : "") + entries[i].filename().string();
  throw DataError(
      "{}: not a data set{}. Want train.csv + train/, one COCO *.json + images, images/ + labels/ (label maps), or pairs "
      "NAME.png "
      "+ "
      "NAME_masks.png; found {}",
      path.string(), options.layout.empty() ? "" : " of the layout " + options.layout,
      entries.empty() ? "an empty folder" : got + (entries.size() > 8 ? ", ..." : ""));
}

}  // namespace

DataSource recognise(const fs::path& path, const DatasetOptions& options) {
  std::error_code error;
  if (!fs::exists(path, error)) throw DataError("{}: no such file or folder", path.string());
  if (!options.images.empty() && !is_folder(options.images))
    throw DataError("{}: no such folder (--images)", options.images.string());
  if (is_folder(path)) return recognise_folder(path, options);
  const std::string kind = extension(path);
  if (options.layout == "coco" || (options.layout.empty() && kind == ".json")) return {Layout::coco, path, options.images, {}};
  if (options.layout == "sartorius" || (options.layout.empty() && kind == ".csv")) {
    const fs::path beside = path.parent_path() / "train";
    return {Layout::sartorius,
            path,
            !options.images.empty() ? options.images
            : is_folder(beside)     ? beside
                                    : path.parent_path(),
            {}};
  }
  throw DataError("{}: not a data set; want a folder, a COCO .json or a train.csv", path.string());
}

std::map<std::string, fs::path> images_in(const fs::path& folder, Faults& faults) {
  std::map<std::string, fs::path> files;
  for (const fs::path& entry : sorted_entries(folder)) {
    if (!has_image_extension(entry) || !is_file(entry)) continue;
    const auto [there, added] = files.emplace(entry.stem().string(), entry);
    if (!added) {
      faults.add(Severity::stop, "image name twice",
                 fmt::format("{}: '{}' and '{}' have one name; which is meant?", folder.string(),
                             there->second.filename().string(), entry.filename().string()));
    }
  }
  return files;
}

Found find_inside(const fs::path& root, const std::string& name, bool allow_outside, fs::path& result) {
  const fs::path relative(name);
  if (!allow_outside) {
    const bool climbs = std::any_of(relative.begin(), relative.end(), [](const fs::path& part) { return part == ".."; });
    if (relative.is_absolute() || climbs) return Found::outside;
  }
  std::vector<fs::path> candidates{root / relative};
  if (!has_image_extension(relative)) {
    for (const char* ending : {".png", ".tif", ".tiff", ".jpg", ".jpeg", ".PNG", ".TIF", ".TIFF", ".JPG", ".JPEG"}) {
      candidates.push_back(root / (name + ending));
    }
  }
  for (const fs::path& candidate : candidates) {
    if (!is_file(candidate)) continue;
    if (!allow_outside) {
      std::error_code error;
      const fs::path real = fs::canonical(candidate, error), real_root = error ? fs::path() : fs::canonical(root, error);
      if (error) continue;
      const auto [end, unused] = std::mismatch(real_root.begin(), real_root.end(), real.begin(), real.end());
      if (end != real_root.end()) return Found::outside;
    }
    result = candidate;
    return Found::yes;
  }
  return Found::missing;
}

}  // namespace glia
