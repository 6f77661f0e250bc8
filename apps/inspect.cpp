// glia inspect: the tensors of a checkpoint, or one image's facts; two files: what differs.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <memory>
#include <optional>

#include "apps/cli.h"
#include "data/image_io.h"
#include "data/npy.h"
#include "data/safetensors.h"

namespace glia {
namespace {

namespace fs = std::filesystem;

struct Options {
  std::string file;
  std::optional<std::string> other;
};

struct Statistics {
  double min = INFINITY, max = -INFINITY, mean = 0;
  int64_t nan = 0;
};

Statistics statistics(const Tensor& t) {
  const Tensor values = t.cast(DType::float64);
  Statistics s;
  int64_t count = 0;
  for (const double v : values.values<double>()) {
    if (std::isnan(v)) {
      ++s.nan;
      continue;
    }
    s.min = std::min(s.min, v);
    s.max = std::max(s.max, v);
    s.mean += v;
    ++count;
  }
  s.mean = count ? s.mean / double(count) : 0;
  return s;
}

using NamedTensors = std::map<std::string, Tensor>;

// Everything named that a file holds, and its metadata. DataError where it holds no tensors.
struct TensorFile {
  NamedTensors tensors;
  Metadata metadata;
};

TensorFile read_tensors(const fs::path& path) {
  const std::string extension = path.extension().string();
  TensorFile file;
  if (extension == ".npy") {
    file.tensors["array"] = read_npy(path);
  } else if (extension == ".npz") {
    for (auto& [name, tensor] : read_npz(path)) file.tensors[name] = tensor;
  } else if (extension == ".safetensors") {
    const SafetensorsFile safetensors(path);
    safetensors.verify();
    for (const SafetensorsEntry& entry : safetensors.entries()) file.tensors[entry.name] = safetensors.load(entry.name);
    file.metadata = safetensors.metadata();
  } else if (has_image_extension(path)) {
    file.tensors["pixels"] = read_image(path).pixels;
  } else if (fs::is_directory(path)) {
    throw DataError("{}: a folder; name a file, such as the checkpoints/best.safetensors of a run", path.string());
  } else {
    throw DataError("{}: neither an image nor a file of tensors (.safetensors, .npy, .npz)", path.string());
  }
  return file;
}

std::string first_line(const std::string& text) {
  const size_t end = text.find('\n');
  return end == std::string::npos ? text : text.substr(0, end) + " ...";
}

void list_tensors(const fs::path& path) {
  const TensorFile file = read_tensors(path);
  for (const auto& [key, value] : file.metadata)
    if (!key.starts_with("xxh3")) fmt::print("{:<20} {}\n", key, first_line(value));
  size_t width = 4;
  for (const auto& [name, t] : file.tensors) width = std::max(width, name.size());
  fmt::print("{:<{}}  {:<10}{:<22}{:>13}{:>13}{:>13}{:>8}\n", "name", width, "dtype", "shape", "min", "max", "mean", "NaN");
  int64_t elements = 0;
  for (const auto& [name, t] : file.tensors) {
    const Statistics s = statistics(t);
    elements += t.size();
    fmt::print("{:<{}}  {:<10}{:<22}{:>13.6g}{:>13.6g}{:>13.6g}{:>8}\n", name, width, name_of(t.dtype()), to_string(t.shape()),
               s.min, s.max, s.mean, s.nan);
  }
  fmt::print("{} tensors, {} elements\n", file.tensors.size(), elements);
}

void show_image(const fs::path& path) {
  const ImageFile image = read_image(path);
  const ImageFacts& f = image.facts;
  const Statistics s = statistics(image.pixels);
  fmt::print("{}: {}, {} x {} pixels, {} channel{}, {} bits {}{}{}\n", path.string(), f.format, f.height, f.width, f.channels,
             f.channels == 1 ? "" : "s", f.bits, f.samples, f.pages > 1 ? fmt::format(", {} pages", f.pages) : "",
             f.storage.empty() ? "" : ", " + f.storage);
  fmt::print("min {:.6g}, max {:.6g}, mean {:.6g}, NaN {}\n", s.min, s.max, s.mean, s.nan);
}

// Largest absolute difference; equal NaN count as equal.
double largest_difference(const Tensor& a, const Tensor& b) {
  const Tensor x = a.cast(DType::float64), y = b.cast(DType::float64);
  double largest = 0;
  for (int64_t i = 0; i < x.size(); ++i) {
    const double p = x.data<double>()[i], q = y.data<double>()[i];
    if (p == q || (std::isnan(p) && std::isnan(q))) continue;
    const double d = std::abs(p - q);
    largest = std::isnan(d) ? INFINITY : std::max(largest, d);
  }
  return largest;
}

int compare(const fs::path& left, const fs::path& right) {
  const TensorFile a = read_tensors(left), b = read_tensors(right);
  int different = 0;
  for (const auto& [name, x] : a.tensors) {
    const auto found = b.tensors.find(name);
    std::string what;
    if (found == b.tensors.end()) {
      what = "only in " + left.string();
    } else if (found->second.shape() != x.shape() || found->second.dtype() != x.dtype()) {
      what = fmt::format("{} {} against {} {}", name_of(x.dtype()), x.shape(), name_of(found->second.dtype()),
                         found->second.shape());
    } else if (x.bytes() && std::memcmp(x.raw(), found->second.raw(), x.bytes()) != 0) {
      const double d = largest_difference(x, found->second);
      if (d > 0) what = fmt::format("differs by up to {:.6g}", d);
    }
    if (what.empty()) continue;
    ++different;
    fmt::print("{}: {}\n", name, what);
  }
  for (const auto& [name, x] : b.tensors) {
    if (a.tensors.count(name)) continue;
    ++different;
    fmt::print("{}: only in {}\n", name, right.string());
  }
  for (const auto& [key, value] : a.metadata) {
    const auto found = b.metadata.find(key);
    if (found == b.metadata.end() || found->second != value) fmt::print("metadata {} differs\n", key);
  }
  for (const auto& [key, value] : b.metadata)
    if (!a.metadata.count(key)) fmt::print("metadata {} only in {}\n", key, right.string());
  fmt::print("{} of {} tensors differ\n", different, a.tensors.size());
  return different ? 1 : 0;
}

int run(const Options& options) {
  if (options.other) return compare(options.file, *options.other);
  if (has_image_extension(options.file)) {
    show_image(options.file);
  } else {
    list_tensors(options.file);
  }
  return 0;
}

}  // namespace

Command inspect_command() {
  const auto options = std::make_shared<Options>();
  return {.name = "inspect",
          .summary = "list the tensors of a checkpoint, or an image's facts; two files: what differs (exit 1)",
          .example = "glia inspect RUN/checkpoints/best.safetensors",
          .declare =
              [options](Arguments& a) {
                a.positional("FILE", &options->file, ".safetensors, .npy, .npz, or an image");
                a.positional("OTHER", &options->other, "a second file to compare with");
              },
          .run = [options] { return run(*options); }};
}

}  // namespace glia
