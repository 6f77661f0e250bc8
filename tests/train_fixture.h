#pragma once
// A training that takes milliseconds and has all that a real one has: augmentation, batch norm's buffers, dropout, several threads.
#include <fmt/format.h>

#include <cmath>
#include <filesystem>
#include <functional>
#include <string>

#include "autograd/apply.h"
#include "data/loader.h"
#include "kernels/loss.h"
#include "kernels/matmul.h"
#include "nn/layers.h"
#include "tensor/random.h"
#include "train/signals.h"
#include "train/training_run.h"

namespace glia::tests {

struct TinyNet : Module {  // (N, 8, 8, 1) -> (N, 8, 8, 1) logits
  nn::Conv2d first{{.in = 1, .out = 4, .pad = nn::same_pad(3), .bias = false}};
  nn::BatchNorm2d norm{4};
  nn::Dropout dropout{0.25};
  nn::Conv2d second{{.in = 4, .out = 1, .pad = nn::same_pad(3)}};

  TinyNet() {
    add("first", first);
    add("norm", norm);
    add("dropout", dropout);
    add("second", second);
  }
  Tensor operator()(const Tensor& x) { return second(dropout(norm(first(x), Activation::relu))); }
};

// 12 images of noise with a bright disc; the disc is the cell.
inline Example tiny_example(int64_t index) {
  Example e;
  e.image = Tensor({8, 8, 1});
  e.labels = Tensor({8, 8}, DType::int32);
  const Philox random(99, static_cast<uint64_t>(index));
  const int64_t cy = 2 + index % 4, cx = 2 + index / 4;
  for (int64_t y = 0; y < 8; ++y) {
    for (int64_t x = 0; x < 8; ++x) {
      const bool inside = (y - cy) * (y - cy) + (x - cx) * (x - cx) <= 4;
      e.labels.data<int32_t>()[y * 8 + x] = inside;
      e.image.data<float>()[y * 8 + x] = static_cast<float>(random.uniform(uint64_t(y * 8 + x)) + (inside ? 0.5 : 0.0));
    }
  }
  e.categories = {0};
  e.index = index;
  e.id = fmt::format("img{}", index);
  return e;
}

// Images and targets (0, 1), each (N, 8, 8, 1).
inline std::vector<Tensor> tiny_prepare(std::span<const Example> examples) {
  Tensor x({int64_t(examples.size()), 8, 8, 1}), t({int64_t(examples.size()), 8, 8, 1});
  for (size_t n = 0; n < examples.size(); ++n) {
    copy_bytes(x.data<float>() + n * 64, examples[n].image.raw(), 256);
    for (size_t i = 0; i < 64; ++i) t.data<float>()[n * 64 + i] = examples[n].labels.data<int32_t>()[i] > 0 ? 1.f : 0.f;
  }
  return {x, t};
}

// One training in `folder`. Members are changed before run() to make it another.
struct TinyTraining {
  explicit TinyTraining(std::filesystem::path run_folder) : folder(std::move(run_folder)) {
    for (const char* s :
         {"solver.max_iterations=40", "solver.max_epochs=0", "solver.batch_size=5", "solver.lr=0.01", "solver.ema=0.9",
          "eval.every=7", "eval.metric=dice", "checkpoint.every=10", "checkpoint.keep=2", "run.seed=5", "run.tensorboard=false"})
      apply_setting(config, s);
  }

  std::filesystem::path folder;
  Config config;
  std::string resume;
  bool overwrite = false;
  int workers = 1;
  int64_t images = 12;
  std::function<Example(int64_t)> load = tiny_example;
  std::function<void(TinyNet&)> after_initialisation = [](TinyNet&) {};
  std::function<NamedLosses(TinyNet&, const Batch&)> losses = [](TinyNet& net, const Batch& b) -> NamedLosses {
    return {{"bce", apply(BceWithLogits{}, net(b.tensors[0]), b.tensors[1], Tensor(), Tensor())}};
  };
  std::function<void(TinyNet&)> pictures;  // drawn from the network after an evaluation that is the best so far
  int64_t stop_after = -1;                 // a wish to stop as by a signal
  int64_t stop_in_evaluation = -1;         // number of the evaluation in this process, from 1, on whose way that comes
  bool with_validation = true;
  Device device;
  std::function<double(int64_t evaluation)> scripted_dice;  // instead of the measured value
  int64_t evaluations = 0;

  void set(const std::string& setting) { apply_setting(config, setting); }

  TrainingResult run() {
    check_config(config);
    TrainingRun run(config, {.folder = folder, .resume = resume, .overwrite = overwrite, .quiet = true});
    TinyNet net;
    net.initialize(static_cast<uint64_t>(config.run.seed));
    after_initialisation(net);
    net.to(device);
    LoaderOptions options;
    options.batch_size = config.solver.batch_size;
    options.seed = static_cast<uint64_t>(config.run.seed);
    options.workers = workers;
    options.augment.hflip = options.augment.vflip = true;
    options.augment.noise = 0.1;
    options.prepare = tiny_prepare;
    Loader loader(images, load, options);
    struct Stop : Hook {
      int64_t at;
      explicit Stop(int64_t step) : at(step) {}
      void after_step(RunContext&, const StepRecord& r) override {
        if (r.step == at) request_stop();
      }
    };
    run.add_hook(std::make_unique<Stop>(stop_after));
    TrainingParts parts{.model = net, .losses = [&](const Batch& b) { return losses(net, b); }, .loader = loader};
    if (with_validation) parts.evaluate = [&] { return evaluate(net); };
    if (pictures) parts.pictures = [&](const std::filesystem::path&, int64_t) { pictures(net); };
    parts.metric_names = {"loss", "dice", "noise"};
    return run.execute(parts);
  }

 private:
  std::optional<NamedValues> evaluate(TinyNet& net) {
    if (++evaluations == stop_in_evaluation) request_stop();
    if (stop_requested()) return std::nullopt;
    std::vector<Example> examples;
    for (int64_t i = 12; i < 15; ++i) examples.push_back(tiny_example(i));
    const auto batch = tiny_prepare(examples);
    const Tensor z = net(batch[0].to(device)).to(Device{});
    double both = 0, sum = 0;
    for (int64_t i = 0; i < z.size(); ++i) {
      const double p = z.data<float>()[i] > 0, t = batch[1].data<float>()[i];
      both += p * t;
      sum += p + t;
    }
    const double dice = scripted_dice ? scripted_dice(evaluations) : (2 * both + 1) / (sum + 1);
    const double loss = apply(BceWithLogits{}, z, batch[1], Tensor(), Tensor()).item();
    return NamedValues{{"loss", loss}, {"dice", dice}, {"noise", std::fmod(loss * 1e4, 1)}};  // the last neither falls nor rises
  }
};

}  // namespace glia::tests
