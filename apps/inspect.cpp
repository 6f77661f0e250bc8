// glia inspect: the tensors of a file of weights, or one image's facts; two files: what differs.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <memory>
#include <optional>

#include "apps/cli.h"
#include "data/image_io.h"
#include "data/limits.h"
#include "data/weights.h"

namespace glia {
namespace {

namespace fs = std::filesystem;

struct Options {
  std::string file;
  std::optional<std::string> other;
  std::vector<std::string> limits;
};

struct Statistics {
  double min = INFINITY, max = -INFINITY, mean = 0;
  int64_t nan = 0;
};

Statistics statistics(ElementReader value, const std::byte* data, size_t count) {
  Statistics s;
  int64_t numbers = 0;
  for (size_t i = 0; i < count; ++i) {
    const double v = value(data, i);
    if (std::isnan(v)) {
      ++s.nan;
      continue;
    }
    s.min = std::min(s.min, v);
    s.max = std::max(s.max, v);
    s.mean += v;
    ++numbers;
  }
  s.mean = numbers ? s.mean / double(numbers) : 0;
  return s;
}

// F8 types have no numbers here, nor has a tensor without elements.
std::string row_of(const Weights& weights, const StoredTensor& t) {
  if (t.dtype.starts_with("F8") || t.elements() == 0) return fmt::format("{:>13}{:>13}{:>13}{:>8}", "-", "-", "-", 0);
  const StoredBytes bytes = t.bytes(weights.source);
  const Statistics s = statistics(element_reader(t.dtype), bytes.view.data(), t.elements());
  return fmt::format("{:>13.6g}{:>13.6g}{:>13.6g}{:>8}", s.min, s.max, s.mean, s.nan);
}

// What is read of the file: an image counts as one tensor "pixels".
Weights read_any(const fs::path& path) {
  if (has_image_extension(path)) return weights_of({{"pixels", read_image(path).pixels}}, path.string());
  return read_weights(path);
}

std::string text_of(const Scalar& scalar) {
  const std::string text = std::visit([](const auto& v) { return fmt::format("{}", v); }, scalar);
  const size_t end = text.find('\n');
  return end == std::string::npos ? text : text.substr(0, end) + " ...";
}

void list_tensors(const fs::path& path) {
  const Weights weights = read_weights(path);
  fmt::print("{:<20} {}\n", "file", weights.format);
  for (const auto& [key, value] : weights.scalars)
    if (!key.starts_with("xxh3")) fmt::print("{:<20} {}\n", key, text_of(value));
  size_t width = 4;
  for (const StoredTensor& t : weights.tensors) width = std::max(width, t.name.size());
  fmt::print("{:<{}}  {:<8}{:<22}{:>13}{:>13}{:>13}{:>8}\n", "name", width, "dtype", "shape", "min", "max", "mean", "NaN");
  uint64_t elements = 0;
  for (const StoredTensor& t : weights.tensors) {
    elements += t.elements();
    fmt::print("{:<{}}  {:<8}{:<22}{}\n", t.name, width, t.dtype, shape_text(t.shape), row_of(weights, t));
  }
  fmt::print("{} tensors, {} elements\n", weights.tensors.size(), elements);
}

void show_image(const fs::path& path) {
  const ImageFile image = read_image(path);
  const ImageFacts& f = image.facts;
  const Tensor pixels = image.pixels.cast(DType::float64);
  const Statistics s = statistics(element_reader("F64"), pixels.raw(), static_cast<size_t>(pixels.size()));
  fmt::print("{}: {}, {} x {} pixels, {} channel{}, {} bits {}{}{}\n", path.string(), f.format, f.height, f.width, f.channels,
             f.channels == 1 ? "" : "s", f.bits, f.samples, f.pages > 1 ? fmt::format(", {} pages", f.pages) : "",
             f.storage.empty() ? "" : ", " + f.storage);
  fmt::print("min {:.6g}, max {:.6g}, mean {:.6g}, NaN {}\n", s.min, s.max, s.mean, s.nan);
}

// "" where two tensors of one type and shape are equal; NaN equals NaN, 0 equals -0.
std::string difference(const Weights& a, const StoredTensor& x, const Weights& b, const StoredTensor& y) {
  const StoredBytes p = x.bytes(a.source), q = y.bytes(b.source);
  if (std::equal(p.view.begin(), p.view.end(), q.view.begin(), q.view.end())) return "";
  if (x.dtype.starts_with("F8")) return "differs";
  const ElementReader value = element_reader(x.dtype);
  double largest = 0;
  for (size_t i = 0; i < x.elements(); ++i) {
    const double u = value(p.view.data(), i), v = value(q.view.data(), i);
    if (u == v || (std::isnan(u) && std::isnan(v))) continue;
    const double d = std::abs(u - v);
    largest = std::isnan(d) ? INFINITY : std::max(largest, d);
  }
  return largest > 0 ? fmt::format("differs by up to {:.6g}", largest) : "";
}

int compare(const fs::path& left, const fs::path& right) {
  const Weights a = read_any(left), b = read_any(right);
  int different = 0;
  const auto report = [&](const std::string& name, const std::string& what) {
    if (what.empty()) return;
    ++different;
    fmt::print("{}: {}\n", name, what);
  };
  for (const StoredTensor& x : a.tensors) {
    const StoredTensor* y = b.find(x.name);
    if (!y) {
      report(x.name, "only in " + left.string());
    } else if (y->shape != x.shape || y->dtype != x.dtype) {
      report(x.name, fmt::format("{} {} against {} {}", x.dtype, shape_text(x.shape), y->dtype, shape_text(y->shape)));
    } else {
      report(x.name, difference(a, x, b, *y));
    }
  }
  for (const StoredTensor& y : b.tensors)
    if (!a.find(y.name)) report(y.name, "only in " + right.string());
  for (const auto& [key, value] : a.scalars) {
    const auto found = b.scalars.find(key);
    if (found == b.scalars.end() || found->second != value) fmt::print("metadata {} differs\n", key);
  }
  for (const auto& [key, value] : b.scalars)
    if (!a.scalars.contains(key)) fmt::print("metadata {} only in {}\n", key, right.string());
  fmt::print("{} of {} tensors differ\n", different, a.tensors.size());
  return different ? 1 : 0;
}

int run(const Options& options) {
  for (const std::string& limit : options.limits) set_file_limit(limit);
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
          .summary = "list the tensors of a file of weights, or an image's facts; two files: what differs (exit 1)",
          .example = "glia inspect RUN/checkpoints/best.safetensors",
          .declare =
              [options](Arguments& a) {
                a.positional("FILE", &options->file,
                             "safetensors, PyTorch's .pth, a .pkl, .npz or .npy, Keras' .h5, or an image");
                a.positional("OTHER", &options->other, "a second file to compare with");
                declare_limits(a, &options->limits);
              },
          .run = [options] { return run(*options); }};
}

}  // namespace glia
