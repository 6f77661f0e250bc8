// Faults and statistics of a data set.
#include "data/check_data.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <numbers>
#include <unordered_map>

#include "data/rle.h"
#include "tensor/parallel.h"

namespace glia {
namespace {

// 64-bit hash of bytes: multiply and rotate on eight bytes at a time, finished as splitmix64. For equality of pictures, not safety.
uint64_t hash_bytes(const void* data, size_t bytes, uint64_t seed) {
  const auto* p = static_cast<const unsigned char*>(data);
  uint64_t h = seed ^ (bytes * 0x9E3779B97F4A7C15ull);
  const auto mix = [&](uint64_t word) { h = std::rotl(h ^ (word * 0xBF58476D1CE4E5B9ull), 29) * 0x94D049BB133111EBull; };
  for (; bytes >= 8; p += 8, bytes -= 8) {
    uint64_t word;
    std::memcpy(&word, p, 8);
    mix(word);
  }
  uint64_t last = 0;
  std::memcpy(&last, p, bytes);
  mix(last);
  h = (h ^ (h >> 30)) * 0xBF58476D1CE4E5B9ull;
  h = (h ^ (h >> 27)) * 0x94D049BB133111EBull;
  return h ^ (h >> 31);
}

uint64_t hash_picture(const Tensor& pixels) {
  uint64_t seed = static_cast<uint64_t>(pixels.dtype());
  for (const int64_t d : pixels.shape()) seed = seed * 1'000'003 + static_cast<uint64_t>(d);
  return hash_bytes(pixels.raw(), pixels.bytes(), seed);
}

struct ImageReport {
  Faults faults{true};
  bool readable = false;
  uint64_t hash = 0;
  std::string kind;
  double sum = 0, squares = 0, values = 0;
  double foreground = 0;
  int64_t overlapping_pixels = 0, overlapping_instances = 0;
};

template <class T>
void sum_values(const Tensor& pixels, ImageReport& report, bool& constant) {
  const auto values = pixels.values<T>();
  constant = !values.empty();
  for (const T v : values) {
    const double d = static_cast<double>(v);
    report.sum += d;
    report.squares += d * d;
    constant = constant && v == values[0];
  }
  report.values = static_cast<double>(values.size());
}

void check_pixels(const Sample& sample, const DatasetOptions& options, ImageReport& report) {
  const ImageFacts facts = read_image_facts(sample.file, options.limits);
  const Tensor pixels = read_pixels(sample, options.limits);
  report.hash = hash_picture(pixels);
  report.kind = fmt::format("{} {} bit {}, {} channel{}", facts.format, facts.bits, facts.samples, facts.channels,
                            facts.channels == 1 ? "" : "s");
  bool constant = false;
  switch (pixels.dtype()) {
    case DType::uint8: sum_values<uint8_t>(pixels, report, constant); break;
    case DType::int32: sum_values<int32_t>(pixels, report, constant); break;
    case DType::int64: sum_values<int64_t>(pixels, report, constant); break;
    case DType::float32: sum_values<float>(pixels, report, constant); break;
    default: sum_values<double>(pixels, report, constant);
  }
  if (constant)
    report.faults.add(Severity::warn, "constant image", fmt::format("{}: all pixels have one value", sample.file.string()));
  report.readable = true;
}

// Runs are column-major, so instances are laid on a column-major plane.
void check_instances(const Sample& sample, ImageReport& report) {
  std::vector<uint8_t> plane(static_cast<size_t>(sample.height * sample.width), 0);
  int64_t covered = 0;
  for (const Instance& instance : sample.instances) {
    if (instance.crowd) continue;
    int64_t overlap = 0, own = 0;
    size_t at = 0;
    for (size_t i = 0; i < instance.mask.counts.size(); ++i) {
      const size_t end = at + instance.mask.counts[i];
      if (i % 2) {
        for (size_t p = at; p < end; ++p) {
          overlap += plane[p];
          plane[p] = 1;
        }
        own += static_cast<int64_t>(end - at);
      }
      at = end;
    }
    covered += own - overlap;
    report.overlapping_pixels += overlap;
    report.overlapping_instances += overlap > 0;
  }
  report.foreground = plane.empty() ? 0 : static_cast<double>(covered) / static_cast<double>(plane.size());
  if (report.overlapping_instances) {
    report.faults.add(
        Severity::warn, "overlapping instances",
        fmt::format("image '{}': {} instances cover {} pixels of others; a label map or a submission gives each pixel to one",
                    sample.id, report.overlapping_instances, report.overlapping_pixels),
        report.overlapping_instances);
  }
}

void add_statistics(const Dataset& dataset, const std::vector<ImageReport>& images, DataReport& report) {
  std::vector<double> per_image, areas, diameters, foreground;
  std::vector<std::vector<double>> class_areas(dataset.categories.size());
  for (const std::string& name : dataset.categories) report.classes.push_back({name, 0, 0, {}});
  double sum = 0, squares = 0, values = 0;
  for (size_t i = 0; i < dataset.samples.size(); ++i) {
    const Sample& s = dataset.samples[i];
    std::vector<char> present(dataset.categories.size(), 0);
    int64_t count = 0;
    for (const Instance& instance : s.instances) {
      if (instance.crowd) {
        ++report.crowds;
        continue;
      }
      ++count;
      const double a = static_cast<double>(area(instance.mask));
      const size_t c = static_cast<size_t>(instance.category);
      areas.push_back(a);
      diameters.push_back(2 * std::sqrt(a / std::numbers::pi));
      class_areas[c].push_back(a);
      ++report.classes[c].instances;
      present[c] = 1;
    }
    for (size_t c = 0; c < present.size(); ++c) report.classes[c].images += present[c];
    report.instances += count;
    report.negatives += count == 0;
    per_image.push_back(static_cast<double>(count));
    foreground.push_back(images[i].foreground);
    report.overlapping_pixels += images[i].overlapping_pixels;
    report.overlapping_instances += images[i].overlapping_instances;
    ++report.sizes[fmt::format("{} x {}", s.height, s.width)];
    if (images[i].readable) ++report.pixels[images[i].kind];
    sum += images[i].sum, squares += images[i].squares, values += images[i].values;
  }
  report.images = static_cast<int64_t>(dataset.samples.size());
  report.per_image = spread_of(std::move(per_image));
  report.area = spread_of(std::move(areas));
  report.diameter = spread_of(std::move(diameters));
  report.foreground = spread_of(std::move(foreground));
  for (size_t c = 0; c < class_areas.size(); ++c) report.classes[c].area = spread_of(std::move(class_areas[c]));
  if (values > 0) {
    report.mean_value = sum / values;
    report.deviation = std::sqrt(std::max(0.0, squares / values - report.mean_value * report.mean_value));
  }
}

}  // namespace

Spread spread_of(std::vector<double> values) {
  if (values.empty()) return {};
  std::sort(values.begin(), values.end());
  const auto at = [&](double q) {  // linear between neighbours, as numpy.percentile
    const double position = q * static_cast<double>(values.size() - 1);
    const size_t low = static_cast<size_t>(position), high = std::min(values.size() - 1, low + 1);
    return values[low] + (position - static_cast<double>(low)) * (values[high] - values[low]);
  };
  double sum = 0;
  for (const double v : values) sum += v;
  return {values.front(), at(0.25), at(0.5), at(0.75), values.back(), sum / static_cast<double>(values.size())};
}

bool DataReport::stops() const {
  return std::any_of(faults.begin(), faults.end(), [](const Fault& f) { return f.severity == Severity::stop; });
}

DataReport check_data(const std::filesystem::path& path, const DatasetOptions& options) {
  DataReport report;
  report.path = path.string();
  report.layout = describe_layout(path, options);
  Faults faults(true);
  Dataset dataset;
  try {
    dataset = open_dataset(path, options, &faults);
  } catch (const DataError& error) {  // nothing can be read beyond it
    faults.add(Severity::stop, "annotations that cannot be read", error.what());
  }
  std::vector<ImageReport> images(dataset.samples.size());
  parallel_for(static_cast<int64_t>(images.size()), 1, [&](int64_t begin, int64_t end) {
    for (size_t i = static_cast<size_t>(begin); i < static_cast<size_t>(end); ++i) {
      const Sample& sample = dataset.samples[i];
      check_instances(sample, images[i]);
      if (!options.need_images) continue;
      try {
        check_pixels(sample, options, images[i]);
      } catch (const Error& error) {
        if (error.code() == ExitCode::out_of_memory) throw;
        images[i].faults.add(options.skip_corrupt ? Severity::drop : Severity::stop, "image that cannot be read", error.what());
      }
    }
  });
  std::unordered_map<uint64_t, const Sample*> seen;
  for (size_t i = 0; i < images.size(); ++i) {
    faults.add(images[i].faults);
    if (!images[i].readable) continue;
    const auto [there, added] = seen.emplace(images[i].hash, &dataset.samples[i]);
    if (!added) {
      faults.add(Severity::warn, "the same picture twice",
                 fmt::format("images '{}' and '{}' are equal; a split may put one into training, one into validation",
                             there->second->id, dataset.samples[i].id));
    }
  }
  add_statistics(dataset, images, report);
  report.faults = faults.list();
  return report;
}

std::vector<std::array<std::string, 2>> equal_pictures(const Dataset& a, const Dataset& b) {
  const auto hashes = [](const Dataset& dataset) {
    std::vector<uint64_t> result(dataset.samples.size());
    parallel_for(static_cast<int64_t>(result.size()), 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i)
        result[static_cast<size_t>(i)] = hash_picture(read_pixels(dataset.samples[static_cast<size_t>(i)]));
    });
    return result;
  };
  const std::vector<uint64_t> of_a = hashes(a), of_b = hashes(b);
  std::unordered_map<uint64_t, size_t> index;
  for (size_t i = 0; i < of_a.size(); ++i) index.emplace(of_a[i], i);
  std::vector<std::array<std::string, 2>> equal;
  for (size_t i = 0; i < of_b.size(); ++i) {
    const auto found = index.find(of_b[i]);
    if (found != index.end()) equal.push_back({a.samples[found->second].id, b.samples[i].id});
  }
  return equal;
}

}  // namespace glia
