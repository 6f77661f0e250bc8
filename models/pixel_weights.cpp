#include "models/pixel_weights.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "kernels/labels.h"

namespace glia {
namespace {

// The two smallest distances per pixel, as far as the weight can tell.
struct Nearest {
  std::vector<float> first, second;
  explicit Nearest(int64_t size) : first(static_cast<size_t>(size), std::numeric_limits<float>::infinity()), second(first) {}
  void offer(int64_t i, float distance) {
    float& a = first[static_cast<size_t>(i)];
    float& b = second[static_cast<size_t>(i)];
    if (distance < a) {
      b = a;
      a = distance;
    } else if (distance < b) {
      b = distance;
    }
  }
};

// Distances to one instance, exact in its bounding box grown by `reach`: all its pixels are in there.
void offer_instance(const Tensor& labels, const LabelFacts& box, int32_t label, int64_t reach, Nearest& nearest) {
  const int64_t height = labels.dim(0), width = labels.dim(1);
  const int64_t y0 = std::max<int64_t>(box.y0 - reach, 0), y1 = std::min(box.y1 + reach, height);
  const int64_t x0 = std::max<int64_t>(box.x0 - reach, 0), x1 = std::min(box.x1 + reach, width);
  Tensor outside({y1 - y0, x1 - x0}, DType::uint8);
  uint8_t* o = outside.data<uint8_t>();
  for (int64_t y = y0; y < y1; ++y)
    for (int64_t x = x0; x < x1; ++x) *o++ = labels.data<int32_t>()[y * width + x] != label;
  const Tensor squared = squared_distance(outside);
  const int32_t* d = squared.data<int32_t>();
  for (int64_t y = y0; y < y1; ++y)
    for (int64_t x = x0; x < x1; ++x) nearest.offer(y * width + x, std::sqrt(static_cast<float>(*d++)));
}

// 1 at pixels of cells that have a neighbour by a side with another label.
Tensor contour_pixels(const Tensor& labels) {
  const int64_t height = labels.dim(0), width = labels.dim(1);
  const int32_t* l = labels.data<int32_t>();
  Tensor contour({height, width}, DType::uint8);
  for (int64_t y = 0; y < height; ++y) {
    for (int64_t x = 0; x < width; ++x) {
      const int64_t i = y * width + x;
      const bool differs = (y > 0 && l[i - width] != l[i]) || (y + 1 < height && l[i + width] != l[i]) ||
                           (x > 0 && l[i - 1] != l[i]) || (x + 1 < width && l[i + 1] != l[i]);
      contour.data<uint8_t>()[i] = l[i] != 0 && differs;
    }
  }
  return contour;
}

// Calls f(index) for the pixels of the disc about (cy, cx); beyond the image's edge it goes on as a mirror image.
template <class F>
void for_disc(const Tensor& labels, int64_t cy, int64_t cx, int64_t radius, F f) {
  const auto mirrored = [](int64_t i, int64_t n) {
    return std::clamp<int64_t>(i < 0 ? -1 - i : i < n ? i : 2 * n - 1 - i, 0, n - 1);
  };
  for (int64_t dy = -radius; dy <= radius; ++dy)
    for (int64_t dx = -radius; dx <= radius; ++dx)
      if (dy * dy + dx * dx <= radius * radius)
        f(mirrored(cy + dy, labels.dim(0)) * labels.dim(1) + mirrored(cx + dx, labels.dim(1)));
}

// k of the header at contour pixels, 0 elsewhere.
Tensor bends(const Tensor& labels, int64_t radius) {
  const int64_t width = labels.dim(1);
  const int32_t* l = labels.data<int32_t>();
  const Tensor contour = contour_pixels(labels);
  const uint8_t* on = contour.data<uint8_t>();
  Tensor excess = Tensor::zeros(labels.shape()), k = Tensor::zeros(labels.shape());
  double straight = 0;
  for (int64_t i = 0; i < labels.size(); ++i) {
    if (!on[i]) continue;
    int64_t all = 0, filled = 0;
    for_disc(labels, i / width, i % width, radius, [&](int64_t j) {
      ++all;
      filled += l[j] == l[i];
    });
    // A straight edge along the pixel's own column: half of the disc without that column, and the column.
    straight = double(all + 2 * radius + 1) / double(2 * all);
    excess.data<float>()[i] = static_cast<float>(double(filled) / double(all) - straight);
  }
  for (int64_t i = 0; i < labels.size(); ++i) {
    if (!on[i]) continue;
    double sum = 0;
    int64_t count = 0;
    for_disc(labels, i / width, i % width, radius, [&](int64_t j) {
      if (!on[j] || l[j] != l[i]) return;
      sum += double(excess.data<float>()[j]);
      ++count;
    });
    const double mean = sum / double(count);
    k.data<float>()[i] = static_cast<float>(mean < 0 ? -mean / straight : mean / (1 - straight));
  }
  return k;
}

double decay(double squared, double sigma) { return std::exp(-squared / (2 * sigma * sigma)); }

// Each value becomes the largest of a line's values times falloff[distance]. `step` from one to the next, `count` of them.
void spread_line(float* values, int64_t count, int64_t step, const std::vector<float>& falloff, std::vector<float>& line) {
  line.resize(static_cast<size_t>(count));
  for (int64_t i = 0; i < count; ++i) line[size_t(i)] = values[i * step];
  const auto reach = static_cast<int64_t>(falloff.size()) - 1;
  for (int64_t i = 0; i < count; ++i) {
    float best = 0;
    for (int64_t j = std::max<int64_t>(i - reach, 0); j <= std::min(i + reach, count - 1); ++j)
      best = std::max(best, line[size_t(j)] * falloff[size_t(std::abs(i - j))]);
    values[i * step] = best;
  }
}

// Class weights of background and cells.
std::array<double, 2> class_weights(const Tensor& labels) {
  const auto all = double(labels.size());
  const auto cell =
      double(std::count_if(labels.data<int32_t>(), labels.data<int32_t>() + labels.size(), [](int32_t l) { return l > 0; }));
  const double rarer = cell == 0 || cell == all ? all : std::min(cell, all - cell);
  return {all - cell > 0 ? rarer / (all - cell) : 1, cell > 0 ? rarer / cell : 1};
}

}  // namespace

Tensor border_term(const Tensor& labels, double sigma) {
  // Beyond `reach` the term is below a millionth.
  const auto reach = static_cast<int64_t>(std::ceil(sigma * std::sqrt(2 * std::log(1e6))));
  const std::vector<LabelFacts> facts = label_facts(labels);
  Nearest nearest(labels.size());
  for (size_t label = 1; label < facts.size(); ++label)
    if (facts[label].pixels > 0) offer_instance(labels, facts[label], static_cast<int32_t>(label), reach, nearest);
  Tensor term(labels.shape());
  for (int64_t i = 0; i < labels.size(); ++i) {
    const double both =
        double(nearest.first[size_t(i)]) + double(nearest.second[size_t(i)]);  // infinite where far from two cells
    term.data<float>()[i] = labels.data<int32_t>()[i] > 0 ? 0.0F : static_cast<float>(decay(both * both, sigma));
  }
  return term;
}

Tensor contour_term(const Tensor& labels, double sigma) {
  const Tensor contour = contour_pixels(labels);
  Tensor term = Tensor::zeros(labels.shape());
  const auto is = contour.values<uint8_t>();
  if (std::none_of(is.begin(), is.end(), [](uint8_t c) { return c != 0; })) return term;
  for (uint8_t& c : contour.values<uint8_t>()) c = c == 0;
  const Tensor squared = squared_distance(contour);
  for (int64_t i = 0; i < labels.size(); ++i)
    term.data<float>()[i] = static_cast<float>(decay(double(squared.data<int32_t>()[i]), sigma));
  return term;
}

Tensor curvature_term(const Tensor& labels, double sigma, int64_t radius) {
  const int64_t height = labels.dim(0), width = labels.dim(1);
  Tensor term = bends(labels, radius);
  // exp(-(dx^2 + dy^2)) is a product, so the largest is found along rows, then along columns; cut where it is below a thousandth.
  std::vector<float> falloff, line;
  for (int64_t d = 0; decay(double(d * d), sigma) >= 1e-3; ++d)
    falloff.push_back(static_cast<float>(decay(double(d * d), sigma)));
  for (int64_t y = 0; y < height; ++y) spread_line(term.data<float>() + y * width, width, 1, falloff, line);
  for (int64_t x = 0; x < width; ++x) spread_line(term.data<float>() + x, height, width, falloff, line);
  return term;
}

Tensor pixel_weights(const Tensor& labels, const PixelWeights& options) {
  Tensor weight(labels.shape());
  const std::array<double, 2> of_class = options.balance ? class_weights(labels) : std::array<double, 2>{1, 1};
  for (int64_t i = 0; i < labels.size(); ++i)
    weight.data<float>()[i] = static_cast<float>(of_class[labels.data<int32_t>()[i] > 0]);
  const auto add = [&](double height, const Tensor& term) {
    for (int64_t i = 0; i < weight.size(); ++i)
      weight.data<float>()[i] = static_cast<float>(double(weight.data<float>()[i]) + height * double(term.data<float>()[i]));
  };
  if (options.border > 0) add(options.border, border_term(labels, options.sigma));
  if (options.contour > 0) add(options.contour, contour_term(labels, options.sigma));
  if (options.curvature > 0) add(options.curvature, curvature_term(labels, options.sigma, options.curvature_radius));
  if (options.normalize) {
    double sum = 0;
    for (const float w : weight.values<float>()) sum += double(w);
    const auto factor = static_cast<float>(double(weight.size()) / sum);
    for (float& w : weight.values<float>()) w *= factor;
  }
  return weight;
}

}  // namespace glia
