// glia bench: the micro-benchmarks, whole steps of a recipe on made-up data, or the reading of weights.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <fstream>
#include <memory>

#include "apps/bench_columns.h"
#include "apps/bench_load.h"
#include "apps/cli.h"
#include "apps/segmentation.h"
#include "autograd/tape.h"
#include "bench/conv_shapes.h"
#include "bench/device_table.h"
#include "bench/explain_choice.h"
#include "bench/peak.h"
#include "bench/run.h"
#include "data/atomic_file.h"
#include "data/rle.h"
#include "kernels/packed_filter.h"
#include "kernels/tuning.h"
#include "tensor/memory.h"
#include "tensor/random.h"
#include "tensor/stream.h"
#include "train/step_profile.h"
#include "train/trainer.h"

namespace glia {
namespace {

struct Options {
  CommonOptions common;
  DataOptions data_options;
  std::string what, recipe, data, mode = "train", size = "256x256", json;
  std::vector<std::string> settings;
  int64_t batch = 5, instances = 1, detections = 0;
  double seconds = 10;
  bool explain = false, explain_choice = false;
};

double peak_rss_mb() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);)
    if (line.starts_with("VmHWM:")) return std::strtod(line.c_str() + 6, nullptr) / 1024;
  return 0;
}

// Gray noise with disks on a grid for cells: what the data are does not change the time.
Example made_up_example(int64_t height, int64_t width, int64_t channels, int64_t instances, uint64_t seed) {
  Example example{.image = Tensor({height, width, channels}, DType::uint8),
                  .labels = Tensor::zeros({height, width}, DType::int32),
                  .categories = std::vector<int>(size_t(instances), 0),
                  .index = 0,
                  .id = "made-up"};
  const Philox random(seed, 0);
  for (int64_t i = 0; i < example.image.size(); ++i)
    example.image.data<uint8_t>()[i] = static_cast<uint8_t>(random.words(uint64_t(i))[0]);
  const auto columns = static_cast<int64_t>(std::ceil(std::sqrt(double(instances))));
  const int64_t cell_height = height / std::max<int64_t>(1, columns), cell_width = width / std::max<int64_t>(1, columns);
  const int64_t r = std::min(cell_height, cell_width) / 4;
  for (int64_t n = 0; n < instances; ++n) {
    const int64_t cy = (n / columns) * cell_height + cell_height / 2, cx = (n % columns) * cell_width + cell_width / 2;
    for (int64_t y = cy - r; y <= cy + r; ++y)
      for (int64_t x = cx - r; x <= cx + r; ++x)
        if ((y - cy) * (y - cy) + (x - cx) * (x - cx) <= r * r)
          example.labels.data<int32_t>()[y * width + x] = static_cast<int32_t>(n + 1);
  }
  return example;
}

// The same with ellipses of 12 to 48 pixels anywhere, which may overlap, for systems that take instances.
Example made_up_instances(int64_t height, int64_t width, int64_t count, int64_t classes, uint64_t seed) {
  constexpr double margin = 24;
  Example example;
  example.image = Tensor({height, width, 3}, DType::uint8);
  example.id = "made-up";
  const Philox random(seed, 1);
  uint64_t n = 0;
  for (int64_t i = 0; i < example.image.size(); ++i)
    example.image.data<uint8_t>()[i] = static_cast<uint8_t>(random.words(n++)[0]);
  for (int64_t k = 0; k < count; ++k) {
    const double a = random.uniform(n++, 6, margin), b = random.uniform(n++, 6, margin);
    const double cy = random.uniform(n++, margin, double(height) - margin),
                 cx = random.uniform(n++, margin, double(width) - margin);
    const Tensor mask = Tensor::zeros({height, width}, DType::uint8);
    for (int64_t y = std::max<int64_t>(0, int64_t(cy - a)); y < std::min(height, int64_t(cy + a) + 2); ++y)
      for (int64_t x = std::max<int64_t>(0, int64_t(cx - b)); x < std::min(width, int64_t(cx + b) + 2); ++x)
        mask.data<uint8_t>()[y * width + x] = std::pow((double(y) - cy) / a, 2) + std::pow((double(x) - cx) / b, 2) <= 1;
    Instance instance{.mask = encode_mask(mask), .category = static_cast<int>(random.below(n++, uint64_t(classes)))};
    instance.box = bounding_box(instance.mask);
    example.instances.push_back(std::move(instance));
  }
  return example;
}

// Fresh weights let a deep ResNet's activations grow without bound, and what is not finite is not detected.
void tame(Module& module) {
  std::vector<NamedTensor> all = module.parameters();
  for (const NamedTensor& b : module.buffers()) all.push_back(b);
  for (const NamedTensor& t : all)
    if (t.name.ends_with("conv3.norm.weight")) t.tensor->fill(0.3);
}

struct Timing {
  std::vector<double> seconds;
  double gflop = 0;
};

// What each layer of a step costs.
template <class Step>
void explain_steps(Module& module, Device device, Step launch) {
  StepProfile profile(module, device);
  for (int i = 0; i < 3; ++i) {
    profile.begin_step();
    launch();
    profile.end_step("rest");
  }
  fmt::print("{}", profile_text(profile.rows(), device.kind == DeviceKind::cpu ? bench::peak().gflops : 0));
}

// Which algorithm each convolution of a step runs with, and the time of the others.
template <class Step>
void explain_choices(Step step) {
  std::vector<cpu::ConvChoice> choices;
  cpu::record_conv_choices(&choices);
  step();
  cpu::record_conv_choices(nullptr);
  bench::print_explained_choices(choices, 3);
}

// No times where the options want the layers or the choices instead.
template <class Step>
Timing time_steps(const Options& options, Module& module, Device device, Step launch) {
  using Clock = std::chrono::steady_clock;
  const auto since = [](Clock::time_point t) { return std::chrono::duration<double>(Clock::now() - t).count(); };
  const auto step = [&] {
    launch();
    synchronize(device);
  };
  Timing timing;
  {
    FlopCounter counter;
    step();  // warms up
    timing.gflop = counter.total() / 1e9;
  }
  if (options.explain) {
    explain_steps(module, device, launch);
    return timing;
  }
  if (options.explain_choice) {
    explain_choices(step);
    return timing;
  }
  reset_peak_memory(device);  // of what was measured on the way to the fastest kernels
  for (const auto start = Clock::now(); timing.seconds.empty() || since(start) < options.seconds;) {
    const auto begin = Clock::now();
    step();
    timing.seconds.push_back(since(begin));
  }
  std::sort(timing.seconds.begin(), timing.seconds.end());
  return timing;
}

Timing time_recipe(const Options& options, const Config& config, Device device, int64_t height, int64_t width) {
  const auto segmenter = make_segmenter(config);
  Module& module = segmenter->module();
  module.initialize(1);
  tame(module);
  module.to(device);
  std::vector<Example> examples;
  for (int64_t i = 0; i < options.batch; ++i) {
    const auto seed = static_cast<uint64_t>(i);
    examples.push_back(segmenter->fit(segmenter->takes_instances()
                                          ? made_up_instances(height, width, options.instances, config.model.num_classes, seed)
                                          : made_up_example(height, width, config.data.channels, options.instances, seed)));
  }
  std::vector<Tensor> batch = segmenter->collate(examples);
  examples.clear();
  for (Tensor& t : batch) t = t.to(device);
  if (options.mode == "infer") {
    module.eval();
    const NoGrad no_grad;
    return time_steps(options, module, device, [&] { segmenter->infer(batch); });
  }
  Optimizer optimizer(trainer_options(config, 1000).optimizer, module.parameters());
  int64_t number = 0;
  return time_steps(options, module, device, [&] {
    optimizer.zero_grad();
    module.set_random(1, number++);
    backward(weighted_sum(segmenter->losses(batch), config.loss.terms));
    optimizer.step(config.solver.lr);
  });
}

// The recipe at this size. Of Mask R-CNN every score passes and no detection suppresses another one, so that as many as asked for are found
// and pasted.
Config bench_config(const Options& options, int64_t height, int64_t width) {
  const Config plain = load_config(options.recipe, options.settings);
  const bool detects = system_of(plain) == "mask_rcnn";
  if (!detects && options.detections != 0)
    throw UsageError("--detections {}: the recipe's model finds cells by pixels and has no limit of detections",
                     options.detections);
  std::vector<std::string> settings;
  if (detects) {
    const int64_t found = options.detections > 0 ? options.detections : 100;
    settings = {"model.num_classes=3",
                "data.classes=[]",
                "input.pixel_mean=[128, 128, 128]",
                "input.pixel_std=[64, 64, 64]",
                "roi_heads.score_thresh_test=0",
                "roi_heads.nms_thresh_test=1",
                fmt::format("roi_heads.detections_per_image={}", found),
                fmt::format("rpn.post_nms_topk_test={}", std::max<int64_t>(1000, found)),
                "eval.score_threshold=0",
                "eval.class_thresholds=[]",
                "eval.min_sizes=[]",
                "eval.remove_overlaps=false"};
    if (height < 64 || width < 64) throw UsageError("--size {}: want 64x64 or more, for cells of up to 48 pixels", options.size);
  } else if (system_of(plain) == "unet") {
    settings.push_back(fmt::format("data.image_size=[{}, {}]", height, width));
  }
  settings.insert(settings.end(), options.settings.begin(), options.settings.end());
  return load_config(options.recipe, settings);
}

int run_step(const Options& options) {
  if (options.recipe.empty()) throw UsageError("glia bench step RECIPE: which recipe? such as unet");
  if (options.mode != "train" && options.mode != "infer") throw UsageError("--mode '{}': want train or infer", options.mode);
  if (options.batch < 1) throw UsageError("--batch {}: want 1 or more", options.batch);
  const auto [height, width] = parse_size(options.size, "--size");
  if (options.detections < 0) throw UsageError("--detections {}: want 0 or more", options.detections);
  if (options.instances < 0 || options.instances > height * width / 16)
    throw UsageError("--instances {}: want 0 to {}, one for every 16 pixels", options.instances, height * width / 16);
  const Config config = bench_config(options, height, width);
  CommonOptions common = options.common;
  if (common.device == "auto") common.device = config.run.device;
  const Device device = common.apply_to_device();
  use_precision(config.run.precision, device);
  set_recomputing(config.run.recompute);
  set_pack_weights(config.run.pack_weights);
  set_tuning(!config.run.deterministic);
  if (options.explain_choice && device.kind != DeviceKind::cpu)
    throw UsageError("--explain-choice: of the CPU's convolutions; on {} the fastest way is measured at first use",
                     to_string(device));
  const Timing t = time_recipe(options, config, device, height, width);
  if (options.explain || options.explain_choice) return 0;
  const double median = t.seconds[t.seconds.size() / 2];
  const bool on_host = device.kind == DeviceKind::cpu;
  const double peak_mb = on_host ? peak_rss_mb() : double(memory_stats(device).peak_bytes) / (1 << 20);
  if (!options.common.quiet)
    fmt::print(
        "{} {} {}x{} batch {} on {}: median {:.4f} s of {} (min {:.4f}, max {:.4f}), {:.1f} GFLOP/s, peak memory {:.0f} MB\n",
        options.recipe, options.mode, height, width, options.batch, to_string(device), median, t.seconds.size(),
        t.seconds.front(), t.seconds.back(), t.gflop / median, peak_mb);
  if (options.json.empty()) return 0;
  std::string json = fmt::format(
      "{{\"workload\": \"{} {} {}x{} batch {}\", \"median_s\": {:.6g}, \"min_s\": {:.6g}, \"max_s\": {:.6g}, \"runs\": {}, "
      "\"gflop\": {:.6g}, \"gflops\": {:.6g}, \"peak_rss_mb\": {:.1f}, \"device\": \"{}\"",
      options.recipe, options.mode, height, width, options.batch, median, t.seconds.front(), t.seconds.back(), t.seconds.size(),
      t.gflop, t.gflop / median, peak_rss_mb(), to_string(device));
  if (!on_host) json += fmt::format(", \"peak_device_mb\": {:.1f}", peak_mb);
  write_file(options.json, json + "}\n");
  return 0;
}

int run_load(const Options& options) {
  if (options.recipe.empty()) throw UsageError("glia bench load FILE: which file of weights?");
  options.common.apply();
  time_loading(options.recipe, options.seconds, options.json, options.common.quiet);
  return 0;
}

int run_columns(const Options& options) {
  if (options.recipe.empty()) throw UsageError("glia bench columns CHECKPOINT: which checkpoint of a UNet++?");
  if (options.data.empty())
    throw UsageError(
        "glia bench columns: --data is required: a data set with its cells, such as RUN/annotation_val.json with --images "
        "FOLDER");
  compare_columns({.checkpoint = options.recipe,
                   .data = options.data,
                   .data_options = options.data_options,
                   .settings = options.settings,
                   .json = options.json,
                   .quiet = options.common.quiet},
                  options.common.apply_to_device());
  return 0;
}

int run(const Options& options) {
  if (options.what != "columns" && !options.data.empty()) throw UsageError("--data: only glia bench columns reads a data set");
  if (options.what == "columns") return run_columns(options);
  if (options.what == "step") return run_step(options);
  if (options.what == "load") return run_load(options);
  const bool on_device = options.common.device != "auto" && options.common.device != "cpu";
  if (on_device && !options.json.empty()) throw UsageError("--json: the tables of a device are text; leave it out");
  if (on_device) return bench::print_device_tables(options.common.apply_to_device(), options.what);
  options.common.apply();
  if (options.explain_choice) return bench::print_conv_choices(options.what, 5);
  std::vector<std::string> arguments;
  if (!options.what.empty()) arguments.push_back("--benchmark_filter=" + options.what);
  if (!options.json.empty()) {
    arguments.push_back("--benchmark_out=" + options.json);
    arguments.push_back("--benchmark_out_format=json");
  }
  return bench::run_benchmarks(arguments);
}

}  // namespace

Command bench_command() {
  const auto options = std::make_shared<Options>();
  return {
      .name = "bench",
      .summary = "time kernels (bench FILTER), whole steps (bench step RECIPE), reading (bench load FILE), or a UNet++'s columns",
      .example =
          "glia bench step unet --mode train --size 256x256 --batch 5\n"
          "  glia bench columns run/checkpoints/best.safetensors --data run/annotation_val.json --images cells/train",
      .declare =
          [options](Arguments& a) {
            a.positional(
                "WHAT", &options->what,
                "a regular expression over the micro-benchmarks' names (on a device: a part of a name), or: step, load, columns",
                false);
            a.positional("RECIPE", &options->recipe,
                         "for step: a recipe; for load: a file of weights; for columns: a checkpoint of unet_plus_plus", false);
            a.option("--data", &options->data, "columns: a data set, to see what each column finds");
            a.option("--mode", &options->mode, "step: train or infer");
            a.option("--size", &options->size, "step: HxW of the images");
            a.option("--batch", &options->batch, "step: images at once");
            a.option("--instances", &options->instances, "step: cells in each made-up image");
            a.option("--detections", &options->detections, "step: detections kept per image, for models that have such a limit");
            a.option("--seconds", &options->seconds, "step, load: for how long; one at least (of step after one to warm up)");
            a.flag("--explain", &options->explain, "step: print what each layer costs instead");
            a.flag("--explain-choice", &options->explain_choice,
                   "step: print which algorithm each convolution runs with, and what the others take; without step: the same of "
                   "well-known 3x3 convolutions whose names contain WHAT");
            a.repeated("--set", &options->settings, "step, columns: KEY=VALUE");
            a.option("--json", &options->json, "also write the figures to this file");
            options->data_options.declare(a);
            options->common.declare(a);
          },
      .run = [options] { return run(*options); }};
}

}  // namespace glia
