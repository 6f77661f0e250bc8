// Speed of matching an image's anchors with its ground truth, and of NMS, per variant.
#include <benchmark/benchmark.h>

#include "autograd/apply.h"
#include "kernels/anchors.h"
#include "kernels/boxes.h"
#include "kernels/matcher.h"
#include "kernels/nms.h"
#include "kernels/shape.h"
#include "tensor/random.h"

namespace glia {
namespace {

constexpr double height = 800, width = 1088;

// Centres anywhere, sides from `low` to `high`, clipped to the image.
Tensor boxes_in_image(int64_t n, double low, double high) {
  const Tensor boxes({n, 4});
  const Philox random(3, uint64_t(n));
  for (int64_t i = 0; i < n; ++i) {
    const auto number = [&](int k, double from, double to) { return random.uniform(uint64_t(4 * i + k), from, to); };
    const double x = number(0, 0, width), y = number(1, 0, height), w = number(2, low, high) / 2, h = number(3, low, high) / 2;
    const box::Corners<float> b{float(x - w), float(y - h), float(x + w), float(y + h)};
    box::store(b, boxes.data<float>() + 4 * i);
  }
  return apply(BoxClip{.height = int64_t(height), .width = int64_t(width)}, boxes);
}

Tensor scores_of(int64_t n) {
  const Tensor scores({n});
  const Philox random(4, uint64_t(n));
  for (int64_t i = 0; i < n; ++i) scores.data<float>()[i] = float(random.uniform(uint64_t(i)));
  return scores;
}

Tensor all_anchors() {
  std::vector<Tensor> levels;
  for (int level = 0; level < 5; ++level) {
    const double stride = 4 << level;
    levels.push_back(anchors({.sizes = {8 * stride},
                              .stride = {stride, stride},
                              .height = int64_t(std::ceil(height / stride)),
                              .width = int64_t(std::ceil(width / stride))}));
  }
  return apply_list(Concat{.axis = 0}, levels);
}

template <class F>
void add(const std::string& name, F run) {
  benchmark::RegisterBenchmark(name.c_str(), run)->Unit(benchmark::kMicrosecond)->UseRealTime();
}

const bool registered = [] {
  for (const auto& [variant, body] : {std::pair{"reference", Nms::forward.reference}, {"cpu", Nms::forward.cpu}}) {
    for (const int64_t n : {2000, 10000}) {
      add(fmt::format("nms/{} boxes, IoU .7/{}", n, variant), [n, body = body](benchmark::State& state) {
        const Tensor boxes = boxes_in_image(n, 16, 200), scores = scores_of(n);
        Tensor keep({n}, DType::int64), count({1}, DType::int64);
        for (auto _ : state) body(Nms{.threshold = 0.7}, boxes, scores, {}, keep, count);
        state.counters["kept"] = count.item();
      });
    }
  }
  for (const auto& [variant, body] : {std::pair{"reference", MatchBoxes::forward.reference}, {"cpu", MatchBoxes::forward.cpu}}) {
    for (const int64_t m : {60, 300}) {
      add(fmt::format("match_boxes/{} x 217413/{}", m, variant), [m, body = body](benchmark::State& state) {
        const Tensor gt = boxes_in_image(m, 16, 200), boxes = all_anchors();
        const int64_t n = boxes.dim(0);
        Tensor matches({n}, DType::int64), labels({n}, DType::int64), iou({n});
        for (auto _ : state) body(MatchBoxes{.allow_low_quality = true}, gt, boxes, matches, labels, iou);
        state.SetItemsProcessed(state.iterations() * n * m);
      });
    }
  }
  return true;
}();

}  // namespace
}  // namespace glia
