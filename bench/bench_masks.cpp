// Masks of detections: 500 cells of 10 to 80 pixels in an image of 520 x 704. pycocotools 2.0.11 on the same masks: encode 47 ms, decode
// 166 ms, IoU 4.9 ms (processor time where these benchmarks were written; compare ratios).
#include <benchmark/benchmark.h>

#include <algorithm>

#include "autograd/apply.h"
#include "data/mask_patches.h"
#include "data/polygon.h"
#include "data/rle.h"
#include "data/selection.h"
#include "tensor/random.h"

namespace glia {
namespace {

constexpr int64_t height = 520, width = 704, count = 500;

struct Ellipse {
  double y, x, ry, rx;
};

std::vector<Ellipse> ellipses() {
  Random random(1);
  std::vector<Ellipse> list;
  for (int64_t i = 0; i < count; ++i)
    list.push_back(
        {random.uniform(0, double(height)), random.uniform(0, double(width)), random.uniform(5, 40), random.uniform(5, 40)});
  return list;
}

double inside(const Ellipse& e, double y, double x) {  // above 0 inside
  const double v = (y - e.y) / e.ry, u = (x - e.x) / e.rx;
  return 1 - v * v - u * u;
}

Tensor mask_images() {  // (count, height, width) uint8
  Tensor masks({count, height, width}, DType::uint8);
  uint8_t* to = masks.data<uint8_t>();
  for (const Ellipse& e : ellipses())
    for (int64_t y = 0; y < height; ++y)
      for (int64_t x = 0; x < width; ++x) *to++ = inside(e, double(y), double(x)) > 0;
  return masks;
}

Tensor image_of(const Tensor& masks, int64_t i) { return masks.slice(i, i + 1).reshape({height, width}); }

std::vector<Rle> run_lengths() {
  const Tensor masks = mask_images();
  std::vector<Rle> list;
  for (int64_t i = 0; i < count; ++i) list.push_back(encode_mask(image_of(masks, i)));
  return list;
}

Tensor boxes() {  // (count, 4)
  Tensor list({count, 4});
  float* to = list.data<float>();
  for (const Ellipse& e : ellipses())
    for (const double v : {e.x - e.rx, e.y - e.ry, e.x + e.rx, e.y + e.ry}) *to++ = float(v);
  return list;
}

Tensor maps() {  // (count, 28, 28): probabilities that are 0.5 on the ellipse
  Tensor list({count, 28, 28});
  float* to = list.data<float>();
  for (int64_t i = 0; i < count; ++i)
    for (int64_t y = 0; y < 28; ++y)
      for (int64_t x = 0; x < 28; ++x)
        *to++ = float(std::clamp(.5 + inside({13.5, 13.5, 14, 14}, double(y), double(x)), 0.0, 1.0));
  return list;
}

void masks_paste_500(benchmark::State& state) {
  const Tensor map = maps(), box = boxes();
  for (auto _ : state) benchmark::DoNotOptimize(paste_masks(map, box, height, width));
}
BENCHMARK(masks_paste_500)->Unit(benchmark::kMillisecond)->MeasureProcessCPUTime();

// Targets of 512 proposals, what a training step takes of one image.
void masks_crop_512(benchmark::State& state) {
  const MaskPatches patches = to_patches(run_lengths());
  const Tensor all = boxes();
  Tensor proposals({512, 4}), instance({512}, DType::int64);
  for (int64_t i = 0; i < 512; ++i) {
    instance.data<int64_t>()[i] = i % count;
    for (int64_t k = 0; k < 4; ++k)
      proposals.data<float>()[4 * i + k] = all.data<float>()[4 * (i % count) + k] + float(i % 7 - 3);
  }
  for (auto _ : state) benchmark::DoNotOptimize(apply(MaskCrop{}, patches.bits, patches.windows, proposals, instance));
}
BENCHMARK(masks_crop_512)->Unit(benchmark::kMillisecond)->MeasureProcessCPUTime();

void masks_to_patches_500(benchmark::State& state) {
  const std::vector<Rle> masks = run_lengths();
  for (auto _ : state) benchmark::DoNotOptimize(to_patches(masks));
}
BENCHMARK(masks_to_patches_500)->Unit(benchmark::kMicrosecond)->MeasureProcessCPUTime();

void rle_decode_500(benchmark::State& state) {  // one after the other
  const std::vector<Rle> masks = run_lengths();
  for (auto _ : state)
    for (const Rle& m : masks) benchmark::DoNotOptimize(decode_mask(m));
}
BENCHMARK(rle_decode_500)->Unit(benchmark::kMillisecond)->MeasureProcessCPUTime();

void rle_decode_500_into_one_tensor(benchmark::State& state) {  // 183 MB, as pycocotools'
  const std::vector<Rle> masks = run_lengths();
  for (auto _ : state) {
    const Tensor all = Tensor::zeros({count, height, width}, DType::uint8);
    for (int64_t i = 0; i < count; ++i) paint_mask(masks[size_t(i)], 1, image_of(all, i));
    benchmark::DoNotOptimize(all);
  }
}
BENCHMARK(rle_decode_500_into_one_tensor)->Unit(benchmark::kMillisecond)->MeasureProcessCPUTime();

void rle_encode_500(benchmark::State& state) {
  const Tensor masks = mask_images();
  for (auto _ : state)
    for (int64_t i = 0; i < count; ++i) benchmark::DoNotOptimize(encode_mask(image_of(masks, i)));
}
BENCHMARK(rle_encode_500)->Unit(benchmark::kMillisecond)->MeasureProcessCPUTime();

void rle_iou_500(benchmark::State& state) {
  const std::vector<Rle> masks = run_lengths();
  for (auto _ : state) benchmark::DoNotOptimize(pairwise_iou(masks, masks));
}
BENCHMARK(rle_iou_500)->Unit(benchmark::kMillisecond)->MeasureProcessCPUTime();

// What a submission takes of a slide: 10,000 cells of 2000 x 2000 pixels to cells without overlaps.
void select_10000_without_overlaps(benchmark::State& state) {
  constexpr int64_t side = 2000;
  Random random(3);
  std::vector<Instance> instances;
  for (int64_t i = 0; i < 10000; ++i) {
    const double x = random.uniform(0, side - 100), y = random.uniform(0, side - 100);
    const double w = random.uniform(10, 80), h = random.uniform(10, 80);
    Instance instance;
    instance.mask =
        rle_from_polygon(std::vector<double>{x, y + h / 2, x + w / 2, y, x + w, y + h / 2, x + w / 2, y + h}, side, side);
    instance.score = random.uniform();
    instance.category = int(i % 3);
    instances.push_back(std::move(instance));
  }
  const Selection selection{.thresholds = {.15, .35, .55}, .min_sizes = {75, 150, 75}, .remove_overlaps = true};
  for (auto _ : state) benchmark::DoNotOptimize(select_instances(instances, selection));
}
BENCHMARK(select_10000_without_overlaps)->Unit(benchmark::kMillisecond)->MeasureProcessCPUTime();

}  // namespace
}  // namespace glia
