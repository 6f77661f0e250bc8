// COCO evaluation of masks: 100 images of 520 x 704 with 150 true cells and 500 detections each, reading of the files included, and the
// search of thresholds on the same. pycocotools 2.0.11 takes 41.8 s of processor time for the first (docs/benchmarks.md).
#include <benchmark/benchmark.h>

#include <filesystem>

#include "data/coco_json.h"
#include "data/dataset.h"
#include "data/rle.h"
#include "tensor/random.h"
#include "train/evaluation.h"
#include "train/threshold_search.h"

namespace glia {
namespace {

namespace fs = std::filesystem;

constexpr int64_t height = 520, width = 704;

Rle ellipse(Random& random) {
  const double b = random.uniform(6, 24), a = random.uniform(6, 24);
  const double cy = random.uniform(24, height - 24), cx = random.uniform(24, width - 24);
  Tensor mask = Tensor::zeros({height, width}, DType::uint8);
  for (int64_t y = 0; y < height; ++y)
    for (int64_t x = 0; x < width; ++x) {
      const double v = (double(y) - cy) / a, u = (double(x) - cx) / b;
      mask.data<uint8_t>()[y * width + x] = v * v + u * u <= 1;
    }
  return encode_mask(mask);
}

// Every image has the same 500 detections, and 150 of them as its truth.
struct Files {
  fs::path folder = fs::temp_directory_path() / "glia_bench_coco_eval";
  Files() {
    fs::create_directories(folder);
    Random random(0);
    std::vector<Instance> cells(500);
    for (Instance& cell : cells) {
      cell.mask = ellipse(random);
      cell.box = bounding_box(cell.mask);
    }
    Dataset truth{{"cell"}, {}, {}}, detections{{"cell"}, {}, {}};
    for (int i = 0; i < 100; ++i) {
      Sample t, d;
      t.id = d.id = std::to_string(i + 1);
      t.source_id = d.source_id = t.id;
      t.height = d.height = height;
      t.width = d.width = width;
      for (size_t k = 0; k < 150; ++k) t.instances.push_back(cells[(k * 77 + size_t(i) * 13) % cells.size()]);
      d.instances = cells;
      for (Instance& x : d.instances) x.score = random.uniform();
      truth.samples.push_back(std::move(t));
      detections.samples.push_back(std::move(d));
    }
    write_coco(folder / "truth.json", truth);
    write_coco_results(folder / "found.json", detections);
  }
  ~Files() {
    std::error_code ignored;
    fs::remove_all(folder, ignored);
  }
  Dataset truth() const { return open_dataset(folder / "truth.json", {.need_images = false}); }
  Dataset found(const Dataset& truth) const { return open_predictions(folder / "found.json", truth, {.need_images = false}); }
};

void coco_eval_segm_load_included(benchmark::State& state) {
  const Files files;
  for (auto _ : state) {
    const Dataset truth = files.truth(), found = files.found(truth);
    std::vector<CocoImage> images(truth.samples.size());
    for (size_t i = 0; i < images.size(); ++i) {
      for (const Instance& t : truth.samples[i].instances) images[i].truth.push_back({&t.mask, t.box, 0, t.crowd, t.area});
      for (const Instance& d : found.samples[i].instances)
        images[i].detections.push_back({&d.mask, d.box, 0, d.score, double(area(d.mask))});
    }
    benchmark::DoNotOptimize(CocoEvaluator(images, 1, IouKind::segm, {.max_detections = {1, 10, 500}}).summary());
  }
}
BENCHMARK(coco_eval_segm_load_included)->Unit(benchmark::kMillisecond)->UseRealTime()->MeasureProcessCPUTime();

void evaluate_all_metrics(benchmark::State& state) {
  const Files files;
  const Dataset truth = files.truth(), found = files.found(truth);
  for (auto _ : state) benchmark::DoNotOptimize(evaluate(truth, found, {.protocol = {.max_detections = {1, 10, 500}}}));
}
BENCHMARK(evaluate_all_metrics)->Unit(benchmark::kMillisecond)->UseRealTime()->MeasureProcessCPUTime();

void tune_thresholds(benchmark::State& state) {
  const Files files;
  const Dataset truth = files.truth(), found = files.found(truth);
  for (auto _ : state) benchmark::DoNotOptimize(search_thresholds(truth, found));
}
BENCHMARK(tune_thresholds)->Unit(benchmark::kMillisecond)->UseRealTime()->MeasureProcessCPUTime();

}  // namespace
}  // namespace glia
