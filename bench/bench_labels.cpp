// Run lengths, label maps, resizing and the Kaggle score: what the loader, check-data and evaluate spend their time on.
#include <benchmark/benchmark.h>

#include <cmath>

#include "autograd/apply.h"
#include "data/contours.h"
#include "data/image_resize.h"
#include "data/rle.h"
#include "kernels/labels.h"
#include "tensor/random.h"
#include "train/evaluation.h"

namespace glia {
namespace {

// Round cells on a jittered grid: (h, w) int32.
Tensor cells(int64_t h, int64_t w, int64_t pitch, double radius, uint64_t seed) {
  Random random(seed);
  Tensor labels = Tensor::zeros({h, w}, DType::int32);
  int32_t label = 0;
  for (int64_t cy = pitch / 2; cy < h; cy += pitch) {
    for (int64_t cx = pitch / 2; cx < w; cx += pitch) {
      const double y0 = double(cy) + random.uniform(-3, 3), x0 = double(cx) + random.uniform(-3, 3);
      ++label;
      for (int64_t y = std::max<int64_t>(0, cy - pitch); y < std::min(h, cy + pitch); ++y)
        for (int64_t x = std::max<int64_t>(0, cx - pitch); x < std::min(w, cx + pitch); ++x)
          if (std::hypot(double(y) - y0, double(x) - x0) < radius) labels.data<int32_t>()[y * w + x] = label;
    }
  }
  return labels;
}

Tensor mask_of(const Tensor& labels) {
  Tensor mask(labels.shape(), DType::uint8);
  for (int64_t i = 0; i < labels.size(); ++i) mask.data<uint8_t>()[i] = labels.data<int32_t>()[i] != 0;
  return mask;
}

Tensor noise(int64_t h, int64_t w, double share) {
  Random random(5);
  Tensor mask({h, w}, DType::uint8);
  for (int64_t i = 0; i < mask.size(); ++i) mask.data<uint8_t>()[i] = random.uniform() < share;
  return mask;
}

void mask_bytes(benchmark::State& state, int64_t pixels) { state.SetBytesProcessed(state.iterations() * pixels); }

// Argument: 0 one cell of 16 pixels' diameter, 1 all cells as one mask, 2 noise (a run at every second pixel).
Tensor decode_subject(int64_t kind) {
  const Tensor labels = cells(520, 704, 24, 8, 1);
  if (kind == 0) return decode_mask(masks_of_labels(labels)[300]);
  return kind == 1 ? mask_of(labels) : noise(520, 704, 0.5);
}

void rle_decode_pairs(benchmark::State& state) {
  const std::string text = to_pairs(encode_mask(decode_subject(state.range(0))));
  for (auto _ : state) benchmark::DoNotOptimize(decode_mask(rle_from_pairs(text, 520, 704)));
  mask_bytes(state, 520 * 704);
}
BENCHMARK(rle_decode_pairs)->DenseRange(0, 2);

void rle_decode(benchmark::State& state) {
  const Rle rle = encode_mask(decode_subject(state.range(0)));
  for (auto _ : state) benchmark::DoNotOptimize(decode_mask(rle));
  mask_bytes(state, 520 * 704);
}
BENCHMARK(rle_decode)->DenseRange(0, 2);

void rle_encode(benchmark::State& state) {
  const Tensor mask = decode_subject(state.range(0));
  for (auto _ : state) benchmark::DoNotOptimize(encode_mask(mask));
  mask_bytes(state, 520 * 704);
}
BENCHMARK(rle_encode)->DenseRange(0, 2);

// check-data's share of 600 images with 117 cells each: text to run lengths, area, box, order check, overlaps.
void rle_check_70000_instances(benchmark::State& state) {
  std::vector<std::string> texts;
  for (const Rle& r : masks_of_labels(cells(520, 704, 54, 16, 2))) texts.push_back(to_pairs(r));
  while (texts.size() < 117) texts.push_back(texts[texts.size() / 2]);
  for (auto _ : state) {
    for (int image = 0; image < 600; ++image) {
      std::vector<Rle> masks;
      for (const std::string& text : texts) {
        masks.push_back(rle_from_pairs(text, 520, 704));
        benchmark::DoNotOptimize(area(masks.back()));
        benchmark::DoNotOptimize(bounding_box(masks.back()));
        benchmark::DoNotOptimize(other_order_fits_better(text, 520, 704, PixelOrder::row));
      }
      benchmark::DoNotOptimize(labels_of_masks(masks, 520, 704));
    }
  }
  state.counters["instances"] = double(600 * texts.size());
}
BENCHMARK(rle_check_70000_instances)->Unit(benchmark::kMillisecond)->Iterations(1);

// Argument: percent of noise; 0: cells.
void components_1024(benchmark::State& state) {
  const Tensor mask = state.range(0) ? noise(1024, 1024, double(state.range(0)) / 100) : mask_of(cells(1024, 1024, 24, 9, 3));
  for (auto _ : state) benchmark::DoNotOptimize(connected_components(mask));
}
BENCHMARK(components_1024)->Arg(0)->Arg(20)->Arg(50)->Unit(benchmark::kMillisecond);

void distance_1024(benchmark::State& state) {
  const Tensor mask = mask_of(cells(1024, 1024, 60, 28, 3));
  for (auto _ : state) benchmark::DoNotOptimize(squared_distance(mask));
}
BENCHMARK(distance_1024)->Unit(benchmark::kMillisecond);

void grow_1024_by_3(benchmark::State& state) {
  const Tensor labels = cells(1024, 1024, 24, 8, 3);
  for (auto _ : state) benchmark::DoNotOptimize(grow_labels(labels, 3));
}
BENCHMARK(grow_1024_by_3)->Unit(benchmark::kMillisecond);

struct Basins {
  Tensor height, markers, mask;
};
Basins touching_cells() {  // of 1024 x 1024, their distances to flood from their peaks
  const Tensor labels = cells(1024, 1024, 24, 13, 3), mask = mask_of(labels), distance = distance_transform(mask);
  const Tensor peaks = peak_local_max(distance, {.min_distance = 5, .exclude_border = false});
  Tensor markers = Tensor::zeros(labels.shape(), DType::int32), height(labels.shape());
  for (int64_t i = 0; i < peaks.dim(0); ++i)
    markers.data<int32_t>()[peaks.data<int32_t>()[2 * i] * 1024 + peaks.data<int32_t>()[2 * i + 1]] = int32_t(i + 1);
  for (int64_t i = 0; i < height.size(); ++i) height.data<float>()[i] = -distance.data<float>()[i];
  return {height, markers, mask};
}

void watershed_1024(benchmark::State& state) {  // by scikit-image's rules
  const Basins b = touching_cells();
  for (auto _ : state) benchmark::DoNotOptimize(watershed(b.height, b.markers, b.mask));
}
BENCHMARK(watershed_1024)->Unit(benchmark::kMillisecond);

void watershed_op_1024(benchmark::State& state) {
  const Basins b = touching_cells();
  for (auto _ : state) benchmark::DoNotOptimize(apply(Watershed{}, b.height, b.markers, b.mask));
}
BENCHMARK(watershed_op_1024)->Unit(benchmark::kMillisecond);

void contours_1024(benchmark::State& state) {
  const Tensor labels = cells(1024, 1024, 24, 9, 3);
  for (auto _ : state) benchmark::DoNotOptimize(contours(labels));
}
BENCHMARK(contours_1024)->Unit(benchmark::kMillisecond);

// 520x704 gray to 256x256; argument: the method.
void resize_to_256(benchmark::State& state) {
  const auto method = ResizeMethod(state.range(0));
  state.SetLabel(std::string(name_of(method)));
  const Tensor image = noise(520, 704, 0.5);
  for (auto _ : state) benchmark::DoNotOptimize(resize_image(image, 256, 256, method));
  mask_bytes(state, image.size());
}
BENCHMARK(resize_to_256)->DenseRange(0, 6)->Unit(benchmark::kMicrosecond);

// One dense image (780 cells): overlaps and both scores.
void kaggle_score_of_labels(benchmark::State& state) {
  const Tensor truth = cells(520, 704, 21, 8, 1), predicted = cells(520, 704, 21, 8, 2);
  for (auto _ : state) benchmark::DoNotOptimize(kaggle_score(truth, predicted));
}
BENCHMARK(kaggle_score_of_labels)->Unit(benchmark::kMillisecond);

void kaggle_score_of_masks(benchmark::State& state) {
  const std::vector<Rle> truth = masks_of_labels(cells(520, 704, 21, 8, 1)),
                         predicted = masks_of_labels(cells(520, 704, 21, 8, 2));
  for (auto _ : state) benchmark::DoNotOptimize(kaggle_score(overlaps(truth, predicted)));
}
BENCHMARK(kaggle_score_of_masks)->Unit(benchmark::kMillisecond);

// Everything `glia evaluate` reports, for 20 such images.
void evaluate_20_images(benchmark::State& state) {
  Dataset truth, predicted;
  truth.categories = predicted.categories = {"cell"};
  for (uint64_t i = 0; i < 20; ++i) {
    for (auto* data : {&truth, &predicted}) {
      Sample s;
      s.id = std::to_string(i);
      s.height = 520;
      s.width = 704;
      for (const Rle& mask : masks_of_labels(cells(520, 704, 21, 8, 2 * i + (data == &truth)))) {
        Instance instance;
        instance.mask = mask;
        instance.box = bounding_box(mask);
        instance.score = 1 / double(s.instances.size() + 1);
        s.instances.push_back(instance);
      }
      data->samples.push_back(s);
    }
  }
  for (auto _ : state) benchmark::DoNotOptimize(evaluate(truth, predicted, {.protocol = {.max_detections = {10, 100, 1000}}}));
}
BENCHMARK(evaluate_20_images)->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace glia
