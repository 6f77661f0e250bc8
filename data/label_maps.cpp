// Label maps to instances.
#include <algorithm>
#include <limits>

#include "data/layout.h"
#include "data/rle.h"
#include "kernels/labels.h"
#include "tensor/parallel.h"

namespace glia {
namespace fs = std::filesystem;

namespace {

struct LabelFile {
  Sample sample;
  Faults faults{true};
  bool bad = false;
  bool ones_in_pieces = false;  // one value, 1, in several pieces: perhaps a 0/1 mask
  bool several_values = false;
};

// The map as (H, W) int32 with the ids that occur numbered 1, 2, ... in ascending order.
Tensor as_labels(const Tensor& pixels, const fs::path& file) {
  const bool plane = pixels.rank() == 2 || (pixels.rank() == 3 && pixels.dim(2) == 1);
  if (!plane) {
    throw DataError(
        "{}: a label map of shape {}, want one channel and one page with whole numbers (an image in place of its labels?)",
        file.string(), pixels.shape());
  }
  Tensor labels({pixels.dim(0), pixels.dim(1)}, DType::int32);
  int32_t* out = labels.data<int32_t>();
  const int64_t n = labels.size();
  if (pixels.dtype() == DType::uint8) {
    std::copy_n(pixels.data<uint8_t>(), n, out);
  } else if (pixels.dtype() == DType::int32) {
    std::copy_n(pixels.data<int32_t>(), n, out);
  } else if (pixels.dtype() == DType::int64) {  // 32 bits unsigned: only the order of the ids matters
    std::vector<int64_t> ids(pixels.data<int64_t>(), pixels.data<int64_t>() + n);
    std::sort(ids.begin(), ids.end());
    ids.erase(std::unique(ids.begin(), ids.end()), ids.end());
    const int32_t first = !ids.empty() && ids[0] == 0 ? 0 : 1;
    for (int64_t i = 0; i < n; ++i) {
      out[i] = first + static_cast<int32_t>(std::lower_bound(ids.begin(), ids.end(), pixels.data<int64_t>()[i]) - ids.begin());
    }
    return labels;
  } else {
    throw DataError("{}: a label map of {} values, want whole numbers", file.string(), name_of(pixels.dtype()));
  }
  if (n > 0 && *std::min_element(out, out + n) < 0) throw DataError("{}: a label map with negative ids", file.string());
  return labels;
}

void read_label_map(const fs::path& path, const LabelMapOptions& options, LabelFile& file) {
  const Tensor pixels = read_image(path, options.limits).pixels;
  Tensor labels = as_labels(pixels, path);
  file.sample.height = labels.dim(0);
  file.sample.width = labels.dim(1);
  if (options.connected_components) labels = connected_components(labels, {.connectivity = 8, .by_value = true});
  std::vector<int32_t> values;
  const std::vector<Rle> masks = masks_of_labels(labels, &values);
  if (!options.connected_components && values.size() == 1) {
    const bool full = (pixels.dtype() == DType::uint8 && values[0] == 255) || values[0] == 65535;
    if (full) {
      throw DataError(
          "{}: the only values are 0 and {}: looks like a semantic mask; --labels connected-components makes each connected "
          "piece an "
          "instance, or give one id per cell",
          path.string(), values[0]);
    }
    const Tensor pieces = connected_components(labels, {});
    file.ones_in_pieces = values[0] == 1 && std::ranges::max(pieces.values<int32_t>()) > 1;
  }
  file.several_values = values.size() > 1;
  for (const Rle& mask : masks) {
    Instance instance{.mask = mask};
    instance.box = bounding_box(mask);
    file.sample.instances.push_back(std::move(instance));
  }
}

}  // namespace

std::vector<Sample> read_label_maps(const std::map<std::string, fs::path>& files, const LabelMapOptions& options,
                                    Faults& faults) {
  const std::vector<std::pair<std::string, fs::path>> list(files.begin(), files.end());
  std::vector<LabelFile> read(list.size());
  parallel_for(static_cast<int64_t>(list.size()), 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      LabelFile& file = read[static_cast<size_t>(i)];
      file.sample.id = list[static_cast<size_t>(i)].first;
      try {
        read_label_map(list[static_cast<size_t>(i)].second, options, file);
      } catch (const Error& error) {
        if (error.code() == ExitCode::out_of_memory) throw;
        file.bad = true;
        const bool semantic = std::string_view(error.what()).find("semantic mask") != std::string_view::npos;
        const bool skip = options.skip_corrupt && !semantic;
        file.faults.add(skip ? Severity::drop : Severity::stop,
                        semantic ? "semantic mask as label map" : "label map that cannot be read", error.what());
      }
    }
  });
  std::vector<Sample> samples;
  bool several = false, pieces = false;
  std::string example;
  for (LabelFile& file : read) {
    faults.add(file.faults);
    if (file.bad) continue;
    several = several || file.several_values;
    if (file.ones_in_pieces && !pieces) pieces = true, example = file.sample.id;
    samples.push_back(std::move(file.sample));
  }
  if (pieces && !several) {
    faults.add(
        Severity::stop, "semantic mask as label map",
        fmt::format(
            "label map '{}': the only values are 0 and 1, in several pieces, and no label map of the set has more: looks like a "
            "semantic mask; --labels connected-components, or give one id per cell",
            example));
  }
  return samples;
}

}  // namespace glia
