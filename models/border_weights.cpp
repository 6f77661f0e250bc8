#include "models/border_weights.h"

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

}  // namespace

Tensor unet_border_weights(const Tensor& labels, const BorderWeights& options) {
  const int64_t size = labels.size();
  const std::vector<LabelFacts> facts = label_facts(labels);
  const auto inside = double(size - (facts.empty() ? size : facts[0].pixels)), outside = double(size) - inside;
  const double rarer = inside == 0 || outside == 0 ? double(size) : std::min(inside, outside);
  const auto class_weight = [&](double pixels) { return pixels > 0 ? rarer / pixels : 1; };

  // Beyond `reach` the term is below a millionth of w0.
  const auto reach = static_cast<int64_t>(std::ceil(options.sigma * std::sqrt(2 * std::log(1e6))));
  Nearest nearest(size);
  for (size_t label = 1; label < facts.size(); ++label)
    if (facts[label].pixels > 0) offer_instance(labels, facts[label], static_cast<int32_t>(label), reach, nearest);

  Tensor weight(labels.shape());
  for (int64_t i = 0; i < size; ++i) {
    if (labels.data<int32_t>()[i] > 0) {
      weight.data<float>()[i] = static_cast<float>(class_weight(inside));
      continue;
    }
    const double both =
        double(nearest.first[size_t(i)]) + double(nearest.second[size_t(i)]);  // infinite where far from two cells
    const double term = options.w0 * std::exp(-both * both / (2 * options.sigma * options.sigma));
    weight.data<float>()[i] = static_cast<float>(class_weight(outside) + term);
  }
  return weight;
}

}  // namespace glia
