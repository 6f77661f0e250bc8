#include "models/cellpose_dynamics.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "autograd/apply.h"
#include "data/image_resize.h"
#include "kernels/flow.h"
#include "kernels/labels.h"

namespace glia {
namespace {

// Numbers the labels that occur 1, 2, ... in the raster order of their first pixels; those in `dropped` (by label) become 0.
Tensor in_raster_order(const Tensor& labels, const std::vector<uint8_t>& dropped = {}) {
  std::vector<int32_t> number;
  int32_t count = 0;
  Tensor result(labels.shape(), DType::int32);
  for (int64_t i = 0; i < labels.size(); ++i) {
    const auto label = static_cast<size_t>(labels.data<int32_t>()[i]);
    if (label >= number.size()) number.resize(label + 1, 0);
    const bool out = label == 0 || (label < dropped.size() && dropped[label]);
    if (!out && number[label] == 0) number[label] = ++count;
    result.data<int32_t>()[i] = out ? 0 : number[label];
  }
  return result;
}

// Labels of which `drop(pixels)` is true become background.
template <class Drop>
Tensor without(const Tensor& labels, const Drop& drop) {
  std::vector<int64_t> pixels;
  for (const int32_t label : labels.values<int32_t>()) {
    if (static_cast<size_t>(label) >= pixels.size()) pixels.resize(static_cast<size_t>(label) + 1, 0);
    ++pixels[static_cast<size_t>(label)];
  }
  std::vector<uint8_t> dropped;
  for (const int64_t count : pixels) dropped.push_back(drop(count));
  return in_raster_order(labels, dropped);
}

int32_t largest(const Tensor& labels) {
  const auto values = labels.values<int32_t>();
  if (values.empty()) return 0;
  const auto [low, high] = std::minmax_element(values.begin(), values.end());
  if (*low < 0) throw DataError("label map: label {}, want 0 or more", *low);
  return *high;
}

void check_finite(const Tensor& maps) {
  const auto values = maps.values<float>();
  const auto bad = std::find_if(values.begin(), values.end(), [](float v) { return !std::isfinite(v); });
  if (bad == values.end()) return;
  const int64_t pixel = (bad - values.begin()) / 3;
  throw DataError("cellpose: the network's {} at row {}, column {} is {}: its weights, or the image, are not finite",
                  (bad - values.begin()) % 3 == 2 ? "logit" : "flow", pixel / maps.dim(1), pixel % maps.dim(1), *bad);
}

// The network's field where it says cell, in pixels per step, and nothing elsewhere; and the pixels of cells.
Tensor velocities(const Tensor& maps, double threshold, std::vector<int32_t>& pixels) {
  Tensor field = Tensor::zeros({maps.dim(0), maps.dim(1), 2});
  const float* m = maps.data<float>();
  for (int64_t i = 0; i < maps.dim(0) * maps.dim(1); ++i) {
    if (!(double(m[3 * i + 2]) > threshold)) continue;
    pixels.push_back(static_cast<int32_t>(i));
    field.data<float>()[2 * i] = m[3 * i] / 5;
    field.data<float>()[2 * i + 1] = m[3 * i + 1] / 5;
  }
  return field;
}

// Points whose pixel is another one.
int64_t moved_on(const Tensor& before, const Tensor& after) {
  int64_t count = 0;
  const float *a = before.data<float>(), *b = after.data<float>();
  for (int64_t i = 0; i < before.dim(0); ++i, a += 2, b += 2)
    count += static_cast<int32_t>(a[0]) != static_cast<int32_t>(b[0]) || static_cast<int32_t>(a[1]) != static_cast<int32_t>(b[1]);
  return count;
}

// The seeds' places become numbers from 1.
void number_seeds(const Tensor& owner) {
  std::vector<int32_t> seeds;
  for (const int32_t seed : owner.values<int32_t>())
    if (seed != 0 && (seeds.empty() || seeds.back() != seed)) seeds.push_back(seed);
  std::sort(seeds.begin(), seeds.end());
  seeds.erase(std::unique(seeds.begin(), seeds.end()), seeds.end());
  for (int32_t& seed : owner.values<int32_t>())
    if (seed != 0) seed = static_cast<int32_t>(std::lower_bound(seeds.begin(), seeds.end(), seed) - seeds.begin()) + 1;
}

}  // namespace

Tensor cellpose_flow_targets(const Tensor& labels, Device device) {
  return apply(FlowTargets{.count = largest(labels)}, labels.to(device)).to(Device{});
}

double cellpose_diameter(std::vector<int64_t> areas) {
  if (areas.empty()) return 0;
  std::sort(areas.begin(), areas.end());
  const auto root = [&](size_t i) { return std::sqrt(double(areas[i])); };
  const size_t n = areas.size();
  return (root((n - 1) / 2) + root(n / 2)) / 2 * 2 / std::sqrt(std::numbers::pi);
}

Tensor cellpose_follow(const Tensor& flow, Tensor points, int64_t steps, bool interpolate, Device device) {
  constexpr int64_t round = 100, most = 1000;
  const Tensor field = flow.to(device);
  if (steps > 0) return apply(FollowFlow{.steps = steps, .interpolate = interpolate}, field, points.to(device)).to(Device{});
  Tensor now = std::move(points);
  for (int64_t done = 0; done < most; done += round) {
    const Tensor next = apply(FollowFlow{.steps = round, .interpolate = interpolate}, field, now.to(device)).to(Device{});
    const int64_t moving = moved_on(now, next);
    now = next;
    if (moving * 1000 < now.dim(0) || moving == 0) break;
  }
  return now;
}

Tensor cellpose_gather(const Tensor& points, const std::vector<int32_t>& pixels, int64_t height, int64_t width,
                       double max_size_fraction, Device device) {
  Tensor labels = Tensor::zeros({height, width}, DType::int32);
  if (pixels.empty()) return labels;
  const Tensor owner = apply(FlowSeeds{.height = height, .width = width}, points.to(device))[1].to(Device{});
  number_seeds(owner);
  const int64_t columns = owner.dim(1);
  for (size_t i = 0; i < pixels.size(); ++i) {
    const auto y = static_cast<int64_t>(points.data<float>()[2 * i]), x = static_cast<int64_t>(points.data<float>()[2 * i + 1]);
    labels.data<int32_t>()[pixels[i]] = owner.data<int32_t>()[(y + FlowSeeds::margin) * columns + x + FlowSeeds::margin];
  }
  const double limit = max_size_fraction * double(height) * double(width);
  return without(labels, [&](int64_t count) { return double(count) > limit; });
}

std::vector<double> cellpose_flow_errors(const Tensor& labels, const Tensor& maps, Device device) {
  const Tensor own = cellpose_flow_targets(labels, device);
  const auto count = static_cast<size_t>(largest(labels));
  std::vector<double> errors(count, 0.0), pixels(count, 0.0);
  for (int64_t i = 0; i < labels.size(); ++i) {
    const int32_t label = labels.data<int32_t>()[i];
    if (label == 0) continue;
    const auto at = static_cast<size_t>(label) - 1;
    pixels[at] += 1;
    for (int64_t k = 0; k < 2; ++k) {
      const double d = double(own.data<float>()[2 * i + k]) - double(maps.data<float>()[3 * i + k]) / 5;
      errors[at] += d * d;
    }
  }
  for (size_t i = 0; i < count; ++i) errors[i] /= std::max(pixels[i], 1.0);
  return errors;
}

Tensor cellpose_tidy(const Tensor& labels, int64_t min_size) {
  const auto small = [&](int64_t count) { return count < min_size; };
  const Tensor tidied = without(labels, small);
  const std::vector<LabelFacts> facts = label_facts(tidied);
  for (size_t label = 1; label < facts.size(); ++label) {
    const LabelFacts& f = facts[label];
    const int64_t h = f.y1 - f.y0, w = f.x1 - f.x0;
    Tensor mask({h, w}, DType::uint8);
    const auto at = [&](int64_t i) -> int32_t& { return tidied.data<int32_t>()[(f.y0 + i / w) * tidied.dim(1) + f.x0 + i % w]; };
    for (int64_t i = 0; i < h * w; ++i) mask.data<uint8_t>()[i] = at(i) == static_cast<int32_t>(label);
    mask = fill_holes(mask, 4);
    for (int64_t i = 0; i < h * w; ++i)
      if (mask.data<uint8_t>()[i]) at(i) = static_cast<int32_t>(label);
  }
  return without(tidied, small);
}

Tensor cellpose_masks(const Tensor& maps, const CellposeDynamics& how) {
  GLIA_CHECK(maps.rank() == 3 && maps.dim(2) == 3, "cellpose: maps are {}, want (H, W, 3)", maps.shape());
  check_finite(maps);
  const int64_t height = maps.dim(0), width = maps.dim(1);
  Tensor labels;
  {  // what is large and needed no longer goes at the end of its block: images may have 10^8 pixels
    std::vector<int32_t> pixels;
    Tensor field = velocities(maps, how.cell_threshold, pixels);
    if (pixels.empty()) return Tensor::zeros({height, width}, DType::int32);
    Tensor points({static_cast<int64_t>(pixels.size()), 2});
    for (size_t i = 0; i < pixels.size(); ++i) {
      points.data<float>()[2 * i] = static_cast<float>(pixels[i] / width);
      points.data<float>()[2 * i + 1] = static_cast<float>(pixels[i] % width);
    }
    points = cellpose_follow(field, std::move(points), how.steps, how.interpolate, how.device);
    field = {};
    labels = cellpose_gather(points, pixels, height, width, how.max_size_fraction, how.device);
  }
  if (how.flow_threshold > 0) {
    std::vector<uint8_t> dropped{0};
    for (const double error : cellpose_flow_errors(labels, maps, how.device)) dropped.push_back(error > how.flow_threshold);
    labels = in_raster_order(labels, dropped);
  }
  return cellpose_tidy(labels, how.min_size);
}

Tensor cellpose_masks(const Tensor& maps, const CellposeDynamics& how, int64_t height, int64_t width) {
  if (maps.dim(0) == height && maps.dim(1) == width) return cellpose_masks(maps, how);
  CellposeDynamics of_any_size = how;
  of_any_size.min_size = 0;
  return cellpose_tidy(resize_labels(cellpose_masks(maps, of_any_size), height, width), how.min_size);
}

}  // namespace glia
