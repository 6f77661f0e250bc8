// Images per second of the loader on pictures of 520 x 704 with augmentation, by number of workers; and of its parts.
#include <benchmark/benchmark.h>

#include <unistd.h>

#include <filesystem>

#include "data/augment.h"
#include "data/check_data.h"
#include "data/dataset.h"
#include "data/loader.h"
#include "data/rle.h"
#include "data/synth.h"
#include "tensor/parallel.h"

namespace glia {
namespace {

constexpr int64_t images = 16;

// A synthetic data set on disk, made once and removed at the end.
const std::filesystem::path& data_folder() {
  struct Folder {
    std::filesystem::path path = std::filesystem::temp_directory_path() / fmt::format("glia-bench-{}", ::getpid());
    Folder() { write_synth({.images = images, .seed = 1}, path); }
    ~Folder() { std::filesystem::remove_all(path); }
  };
  static const Folder folder;
  return folder.path;
}

AugmentOptions all_changes() {
  return {.hflip = true, .vflip = true, .rotate = 20, .scale = 0.2, .brightness = 0.1, .contrast = 0.2, .noise = 0.02};
}

void loader_520x704(benchmark::State& state) {
  const Dataset dataset = open_dataset(data_folder());
  LoaderOptions options;
  options.batch_size = 5;
  options.seed = 1;
  options.workers = static_cast<int>(state.range(0));
  options.cache = state.range(1) != 0;
  options.augment = all_changes();
  Loader loader(
      images, [&](int64_t i) { return read_example(dataset, i); }, options);
  int64_t n = 0;
  for (auto _ : state) n += static_cast<int64_t>(loader.next()->examples.size());
  state.SetItemsProcessed(n);
}
BENCHMARK(loader_520x704)
    ->ArgNames({"workers", "cache"})
    ->ArgsProduct({{0, 1, 2}, {0, 1}})
    ->Unit(benchmark::kMillisecond)
    ->UseRealTime();

void augment_520x704(benchmark::State& state) {
  const SynthImage picture = synth_image({.seed = 1}, 0);
  int64_t i = 0;
  for (auto _ : state) {
    const Augmentation a = draw_augmentation(all_changes(), 520, 704, 1, 0, i++);
    benchmark::DoNotOptimize(augment_image(picture.image, a));
    benchmark::DoNotOptimize(augment_labels(picture.labels, a));
  }
  state.SetItemsProcessed(state.iterations());
}
BENCHMARK(augment_520x704)->Unit(benchmark::kMillisecond);

// One image of 520 x 704 with many instances to 800 x 1083, on one core.
void detection_520x704(benchmark::State& state) {
  const SynthImage picture = synth_image({.seed = 1}, 0);
  std::vector<Instance> instances;
  const std::vector<Rle> masks = masks_of_labels(picture.labels);
  for (int64_t i = 0; i < state.range(0); ++i) {
    Instance& instance = instances.emplace_back();
    instance.mask = masks[static_cast<size_t>(i) % masks.size()];
    instance.box = bounding_box(instance.mask);
  }
  const DetectionAugment augment{.short_edge = {800}, .max_size = 1333, .hflip = true, .brightness = .1, .contrast = .1};
  const SerialRegion serial;
  int64_t epoch = 0;
  for (auto _ : state) {
    Tensor image = picture.image;
    std::vector<Instance> augmented = instances;
    augment_detection(image, augmented, augment, 1, epoch++, 0);
    benchmark::DoNotOptimize(augmented.data());
  }
  state.SetItemsProcessed(state.iterations());
}
BENCHMARK(detection_520x704)->ArgNames({"instances"})->Arg(500)->Arg(5000)->Unit(benchmark::kMillisecond);

void read_520x704(benchmark::State& state) {
  const Dataset dataset = open_dataset(data_folder());
  int64_t i = 0;
  for (auto _ : state) benchmark::DoNotOptimize(read_example(dataset, i++ % images));
  state.SetItemsProcessed(state.iterations());
}
BENCHMARK(read_520x704)->Unit(benchmark::kMillisecond);

void synth_520x704(benchmark::State& state) {
  int64_t i = 0;
  for (auto _ : state) benchmark::DoNotOptimize(synth_image({.seed = 1}, i++));
  state.SetItemsProcessed(state.iterations());
}
BENCHMARK(synth_520x704)->Unit(benchmark::kMillisecond);

void check_data_16_images(benchmark::State& state) {
  for (auto _ : state) benchmark::DoNotOptimize(check_data(data_folder()));
  state.SetItemsProcessed(state.iterations() * images);
}
BENCHMARK(check_data_16_images)->Unit(benchmark::kMillisecond)->UseRealTime();

}  // namespace
}  // namespace glia
