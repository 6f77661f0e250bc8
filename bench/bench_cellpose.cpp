// Cellpose's parts at the sizes of its users: flow targets and dynamics of an image of 1022 x 1024 with some 60 large cells of any form
// (or of the label map that GLIA_BENCH_LABELS names; GLIA_BENCH_SAVE_LABELS says where to write the made-up one), its network on 8 tiles of 224 x 224.
#include <benchmark/benchmark.h>

#include <cstdlib>
#include <vector>

#include "autograd/apply.h"
#include "autograd/operators.h"
#include "autograd/tape.h"
#include "data/image_io.h"
#include "data/synth.h"
#include "kernels/flow.h"
#include "models/cellpose.h"
#include "models/cellpose_dynamics.h"
#include "nn/optimizer.h"
#include "tensor/random.h"

namespace glia {
namespace {

// Made-up astrocytes, twice as large as they are in the Sartorius images.
Tensor made_up_labels() {
  constexpr int64_t height = 1022, width = 1024;
  SynthOptions options{.images = 2, .height = height / 2, .width = width / 2, .density = 0.9};
  const Tensor small = synth_image(options, 1).labels;
  Tensor labels({height, width}, DType::int32);
  for (int64_t i = 0; i < labels.size(); ++i)
    labels.data<int32_t>()[i] = small.data<int32_t>()[i / width / 2 * (width / 2) + i % width / 2];
  return labels;
}

const Tensor& image_labels() {
  static const Tensor labels = [] {
    const char *file = std::getenv("GLIA_BENCH_LABELS"), *save = std::getenv("GLIA_BENCH_SAVE_LABELS");
    if (!file) {
      const Tensor made_up = made_up_labels();
      if (save) write_label_map(save, made_up);  // for other programs to work on
      return made_up;
    }
    const Tensor image = read_image(file).pixels;
    return image.cast(DType::int32).reshape({image.dim(0), image.dim(1)});
  }();
  return labels;
}

// What a perfect network says of the labels.
Tensor perfect_maps(const Tensor& labels) {
  const Tensor flow = cellpose_flow_targets(labels);
  Tensor maps({labels.dim(0), labels.dim(1), 3});
  for (int64_t i = 0; i < labels.size(); ++i) {
    for (int64_t k = 0; k < 2; ++k) maps.data<float>()[3 * i + k] = 5 * flow.data<float>()[2 * i + k];
    maps.data<float>()[3 * i + 2] = labels.data<int32_t>()[i] > 0 ? 5.0f : -5.0f;
  }
  return maps;
}

void count_cells(benchmark::State& state, const Tensor& labels) {
  const auto values = labels.values<int32_t>();
  state.counters["cells"] = double(*std::max_element(values.begin(), values.end()));
}

void cellpose_flow_targets(benchmark::State& state) {
  const Tensor& labels = image_labels();
  for (auto _ : state) benchmark::DoNotOptimize(cellpose_flow_targets(labels));
  count_cells(state, labels);
}
BENCHMARK(cellpose_flow_targets)->Unit(benchmark::kMillisecond)->UseRealTime();

struct Pixels {  // of all cells
  Tensor flow, points;
  std::vector<int32_t> indices;
};
Pixels cell_pixels(const Tensor& labels) {
  Pixels p{.flow = cellpose_flow_targets(labels), .points = {}, .indices = {}};
  for (int64_t i = 0; i < labels.size(); ++i)
    if (labels.data<int32_t>()[i]) p.indices.push_back(static_cast<int32_t>(i));
  p.points = Tensor({static_cast<int64_t>(p.indices.size()), 2});
  for (size_t i = 0; i < p.indices.size(); ++i) {
    p.points.data<float>()[2 * i] = static_cast<float>(p.indices[i] / labels.dim(1));
    p.points.data<float>()[2 * i + 1] = static_cast<float>(p.indices[i] % labels.dim(1));
  }
  return p;
}

// Argument: steps; 0: until the pixels have arrived.
void cellpose_euler(benchmark::State& state) {
  const Pixels p = cell_pixels(image_labels());
  for (auto _ : state) benchmark::DoNotOptimize(cellpose_follow(p.flow, p.points, state.range(0), true));
  state.counters["points"] = double(p.points.dim(0));
}
BENCHMARK(cellpose_euler)->Arg(200)->Arg(0)->Unit(benchmark::kMillisecond)->UseRealTime();

void cellpose_seeds(benchmark::State& state) {
  const Tensor& labels = image_labels();
  const Pixels p = cell_pixels(labels);
  const Tensor points = cellpose_follow(p.flow, p.points, 200, true);
  const FlowSeeds seeds{.height = labels.dim(0), .width = labels.dim(1)};
  for (auto _ : state) benchmark::DoNotOptimize(apply(seeds, points));
}
BENCHMARK(cellpose_seeds)->Unit(benchmark::kMillisecond)->UseRealTime();

// Seeds, their growth, and a label for every pixel.
void cellpose_gather(benchmark::State& state) {
  const Tensor& labels = image_labels();
  const Pixels p = cell_pixels(labels);
  const Tensor points = cellpose_follow(p.flow, p.points, 200, true);
  for (auto _ : state) benchmark::DoNotOptimize(cellpose_gather(points, p.indices, labels.dim(0), labels.dim(1), 0.4));
}
BENCHMARK(cellpose_gather)->Unit(benchmark::kMillisecond)->UseRealTime();

void cellpose_flow_check(benchmark::State& state) {
  const Tensor maps = perfect_maps(image_labels());
  for (auto _ : state) benchmark::DoNotOptimize(cellpose_flow_errors(image_labels(), maps));
}
BENCHMARK(cellpose_flow_check)->Unit(benchmark::kMillisecond)->UseRealTime();

// From maps to cells: all of these, holes filled, small cells dropped. Argument: steps, as above.
void cellpose_dynamics(benchmark::State& state) {
  const Tensor maps = perfect_maps(image_labels());
  Tensor found;
  for (auto _ : state) benchmark::DoNotOptimize(found = cellpose_masks(maps, {.steps = state.range(0)}));
  count_cells(state, found);
}
BENCHMARK(cellpose_dynamics)->Arg(200)->Arg(0)->Unit(benchmark::kMillisecond)->UseRealTime();

Tensor noise(const Shape& shape) {
  Random random(1);
  Tensor t(shape);
  for (float& v : t.values<float>()) v = static_cast<float>(random.uniform(-1, 1));
  return t;
}

void cellpose_forward_8x224x224(benchmark::State& state) {
  const NoGrad no_grad;
  CellposeNet net;
  net.initialize(1);
  net.eval();
  const Tensor x = noise({8, 224, 224, 2});
  for (auto _ : state) benchmark::DoNotOptimize(net(x));
}
BENCHMARK(cellpose_forward_8x224x224)->Unit(benchmark::kMillisecond)->UseRealTime();

// Forward, loss, backward, SGD.
void cellpose_training_step_8x224x224(benchmark::State& state) {
  CellposeNet net;
  net.initialize(1);
  Optimizer optimizer({.kind = OptimizerKind::sgd, .momentum = 0.9, .weight_decay = 1e-5, .weight_decay_norm = 1e-5},
                      net.parameters());
  const Tensor x = noise({8, 224, 224, 2}), flow = noise({8, 224, 224, 2});
  Tensor cell({8, 224, 224, 1});
  for (int64_t i = 0; i < cell.size(); ++i) cell.data<float>()[i] = flow.data<float>()[2 * i] > 0 ? 1.0f : 0.0f;
  for (auto _ : state) {
    optimizer.zero_grad();
    const auto losses = cellpose_losses(net(x).maps, flow, cell);
    backward(losses[0] + losses[1]);
    optimizer.step(1e-3);
  }
}
BENCHMARK(cellpose_training_step_8x224x224)->Unit(benchmark::kMillisecond)->UseRealTime();

}  // namespace
}  // namespace glia
