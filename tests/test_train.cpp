// The trainer and the loop of a run: what a step does, evaluation, early stopping, the files of the log, a full disk (R24).
#include <doctest/doctest.h>

#include <fstream>

#include "data/atomic_file.h"
#include "kernels/unary.h"
#include "tests/paths.h"
#include "tests/train_files.h"

using namespace glia;
using namespace glia::tests;
namespace fs = std::filesystem;

TEST_SUITE_BEGIN("train");

TEST_CASE("trainer: the weighted sum of losses and its gradients") {
  Tensor a = Tensor::scalar(2), b = Tensor::scalar(3), c = Tensor::scalar(5);
  require_grad(a);
  require_grad(b);
  const Tensor total = weighted_sum({{"a", apply(Square{}, a)}, {"b", apply(Square{}, b)}, {"c", c}}, {{"b", 0.5}, {"x", 9}});
  CHECK(total.item() == 4 + 0.5 * 9 + 5);
  backward(total);
  CHECK(grad_of(a).item() == 4);
  CHECK(grad_of(b).item() == 3);
}

TEST_CASE("trainer: accumulated batches, clipping and the learning rate of a step") {
  struct Line : Module {  // y = w x, loss = mean y^2: with x = 0, 1, 2, 3 and w = 1 it is 3.5, its gradient 7
    Tensor w;
    Line() { add_parameter("w", w, {1, 1}, {.initializer = Initializer::ones}); }
  };
  // Loss, gradient norm and w after one step.
  const auto after_step = [](int64_t batch, const TrainerOptions& given) {
    LoaderOptions options;
    options.batch_size = batch;
    options.shuffle = false;
    options.workers = 0;
    options.prepare = [](std::span<const Example> examples) {
      std::vector<float> x;
      for (const Example& e : examples) x.push_back(e.image.data<float>()[0]);
      return std::vector<Tensor>{Tensor::from<float>({int64_t(x.size()), 1}, x)};
    };
    const auto load = [](int64_t i) {
      Example e;
      e.image = Tensor::full({1, 1, 1}, static_cast<double>(i % 4));
      e.index = i;
      return e;
    };
    Loader loader(8, load, options);
    Line line;
    TrainerOptions o = given;
    o.optimizer = {.kind = OptimizerKind::sgd};
    o.schedule.lr = 0.05;
    const LossFunction losses = [&](const Batch& b) -> NamedLosses {
      const Tensor y = apply(Linear{}, b.tensors[0], line.w, Tensor());
      return {{"mse", apply(MseLoss{}, y, Tensor::zeros(y.shape()))}};
    };
    Trainer trainer(line, losses, loader, o);
    const StepRecord r = trainer.step();
    return std::vector<double>{r.loss, r.grad_norm, line.w.item(), r.lr};
  };
  const auto is = [](const std::vector<double>& got, const std::vector<double>& want) {
    for (size_t i = 0; i < 4; ++i) CHECK(got[i] == doctest::Approx(want[i]).epsilon(1e-5));
  };
  is(after_step(4, {}), {3.5, 7, 1 - 0.05 * 7, 0.05});
  is(after_step(2, {.accumulate = 2}), {3.5, 7, 1 - 0.05 * 7, 0.05});
  is(after_step(4, {.clip_norm = 2}), {3.5, 7, 1 - 0.05 * 2, 0.05});
  is(after_step(4, {.clip_value = 3}), {3.5, 7, 1 - 0.05 * 3, 0.05});
  is(after_step(4, {.loss_weights = {{"mse", 2}}}), {7, 14, 1 - 0.05 * 14, 0.05});
  Schedule warm;
  warm.warmup_steps = 10;
  warm.warmup_factor = 0.5;
  is(after_step(4, {.schedule = warm}), {3.5, 7, 1 - 0.025 * 7, 0.025});
}

TEST_CASE("run: a training learns, and leaves the files it promises") {
  const TemporaryFolder folder;
  TinyTraining training(folder / "run");
  training.set("solver.max_iterations=120");
  const TrainingResult result = training.run();
  CHECK(result.end == TrainingEnd::finished);
  CHECK(result.exit_code() == ExitCode::ok);
  CHECK(result.steps == 120);
  CHECK(result.epochs == 40);
  CHECK(contains(result.best, "dice 0."));
  const auto rows = results(folder / "run");
  REQUIRE(rows.size() == 18);  // every 7 steps, and at the end
  CHECK(rows[0].at("step") == "7");
  CHECK(rows[0].at("epoch") == "3");
  CHECK(rows[17].at("step") == "120");
  CHECK(std::stod(rows[17].at("val_loss")) < 0.6 * std::stod(rows[0].at("val_loss")));
  CHECK(std::stod(rows[17].at("loss")) < 0.6 * std::stod(rows[0].at("loss")));
  CHECK(rows[0].contains("loss_bce"));
  CHECK(rows[0].contains("lr"));

  std::ifstream metrics(folder / "run" / "metrics.jsonl");
  int64_t step = 0;
  for (std::string line; std::getline(metrics, line);) {
    CHECK(line.starts_with(fmt::format("{{\"step\":{},\"epoch\":{},\"loss\":", step + 1, step / 3 + 1)));
    for (const char* key : {"loss_bce", "lr", "grad_norm", "images_per_s", "data_wait", "memory"})
      CHECK(contains(line, fmt::format(",\"{}\":", key)));
    ++step;
  }
  CHECK(step == 120);
  const auto files = names_in(folder / "run");
  for (const char* name : {"config.toml", "metrics.jsonl", "results.csv", "train.log", "checkpoints"})
    CHECK(files.contains(name));
  CHECK(names_in(folder / "run" / "checkpoints").contains("best.safetensors"));
  Config saved;
  read_toml(saved, read_file(folder / "run" / "config.toml"), "config.toml");
  CHECK(resume_differences(saved, training.config).empty());
  CHECK(saved.solver.max_iterations == 120);
}

TEST_CASE("run: early stopping, the best checkpoint and the end of it all") {
  const TemporaryFolder folder;
  TinyTraining training(folder / "run");
  training.set("eval.every=2");
  training.set("early_stopping.metric=dice");
  training.set("early_stopping.patience=3");
  const std::vector<double> dice{0.1, 0.5, 0.4, 0.5, 0.3, 0.9};
  training.scripted_dice = [&](int64_t i) { return dice[static_cast<size_t>(i - 1)]; };
  const TrainingResult result = training.run();
  CHECK(result.end == TrainingEnd::stopped_early);
  CHECK(result.steps == 10);
  CHECK(result.best == "dice 0.5 at step 4");
  CHECK(read_checkpoint(folder / "run" / "checkpoints" / "best.safetensors").step == 4);
  CHECK(read_checkpoint(last_of(folder / "run")).step == 10);
  CHECK(contains(read_file(folder / "run" / "train.log"), "stopped early: dice has not improved on 0.5 for 3 evaluations"));

  TinyTraining again(folder / "run");  // stopped is stopped ...
  again.config = training.config;
  again.resume = "auto";
  CHECK(again.run().end == TrainingEnd::stopped_early);
  again.set("early_stopping.patience=5");  // ... until the patience is raised
  again.scripted_dice = [](int64_t) { return 0.2; };
  again.resume = "auto";
  CHECK(again.run().steps == 14);

  TinyTraining none(folder / "none");
  none.set("checkpoint.save_best=none");
  none.set("solver.max_iterations=10");
  none.run();
  CHECK_FALSE(fs::exists(folder / "none" / "checkpoints" / "best.safetensors"));
  TinyTraining lowest(folder / "lowest");  // of a loss, less is better
  lowest.set("checkpoint.save_best=loss");
  lowest.run();
  double least = 1e9;
  for (const auto& row : results(folder / "lowest")) least = std::min(least, std::stod(row.at("val_loss")));
  const Checkpoint best = read_checkpoint(folder / "lowest" / "checkpoints" / "best.safetensors");
  CHECK(best.state.number("best.value") == least);

  TinyTraining blind(folder / "blind");  // without validation images
  blind.with_validation = false;
  CHECK(blind.run().steps == 40);
  CHECK_FALSE(fs::exists(folder / "blind" / "checkpoints" / "best.safetensors"));
}

TEST_CASE("run: the checkpoints of the K best evaluations stay, whenever the run was stopped") {
  const TemporaryFolder folder;
  const std::vector<double> dice{0.1, 0.5, 0.4, 0.5, 0.3, 0.9, NAN, 0.45, 0.1, 0.5};  // of equal ones the first is better
  const auto set_up = [&](TinyTraining& t, size_t evaluations_before) {
    for (const char* s : {"eval.every=4", "checkpoint.keep=1", "checkpoint.keep_best=3"}) t.set(s);
    t.scripted_dice = [&dice, evaluations_before](int64_t i) { return dice[evaluations_before + static_cast<size_t>(i - 1)]; };
  };
  const std::set<std::string> want{"best.safetensors",        "last.safetensors",        "step-000008.safetensors",
                                   "step-000016.safetensors", "step-000024.safetensors", "step-000040.safetensors"};
  TinyTraining whole(folder / "whole");
  set_up(whole, 0);
  CHECK(whole.run().best == "dice 0.9 at step 24");
  CHECK(names_in(whole.folder / "checkpoints") == want);
  CHECK(read_checkpoint(whole.folder / "checkpoints" / "best.safetensors").step == 24);
  CHECK(read_checkpoint(whole.folder / "checkpoints" / "step-000016.safetensors").best == "dice 0.5 at step 8");
  for (const int64_t k : {9, 17, 24, 26, 39}) {
    CAPTURE(k);
    TinyTraining part(folder / fmt::format("part{}", k)), rest(part.folder);
    set_up(part, 0);
    part.stop_after = k;
    part.run();
    set_up(rest, static_cast<size_t>((k - 1) / 4));  // an evaluation on whose way the wish to stop came is made again
    rest.resume = "auto";
    CHECK(rest.run().steps == 40);
    CHECK(names_in(rest.folder / "checkpoints") == want);
    CHECK(same_checkpoint(last_of(whole.folder), last_of(rest.folder)));
  }
  TinyTraining fewer(folder / "whole");  // two from here on
  set_up(fewer, 0);
  fewer.set("checkpoint.keep_best=2");
  fewer.set("solver.max_iterations=44");
  fewer.scripted_dice = [](int64_t) { return 0.1; };
  fewer.resume = "auto";
  fewer.run();
  CHECK(names_in(fewer.folder / "checkpoints") == std::set<std::string>{"best.safetensors", "last.safetensors",
                                                                        "step-000008.safetensors", "step-000024.safetensors",
                                                                        "step-000044.safetensors"});
}

TEST_CASE("run: evaluation sees the averaged weights, training goes on with its own") {
  const TemporaryFolder folder;
  TinyTraining with(folder / "with"), without(folder / "without");
  without.set("solver.ema=0");
  with.run();
  without.run();
  const Checkpoint a = read_checkpoint(last_of(with.folder)), b = read_checkpoint(last_of(without.folder));
  CHECK(same_bits(a.weights, b.weights));
  CHECK(a.ema.size() == 5);
  CHECK(b.ema.empty());
  CHECK_FALSE(same_bits(a.weights, a.inference_weights()));
  CHECK(results(with.folder)[0].at("val_loss") != results(without.folder)[0].at("val_loss"));
}

TEST_CASE("run: drawing pictures is an evaluation: it leaves weights and statistics alone") {
  const TemporaryFolder folder;
  TinyTraining drawn(folder / "drawn"), plain(folder / "plain");
  int pictures = 0;
  drawn.pictures = [&](TinyNet& net) {
    ++pictures;
    CHECK_FALSE(wants_grad(net(Tensor::full({1, 8, 8, 1}, 3.0))));
  };
  drawn.run();
  plain.run();
  CHECK(pictures > 0);
  CHECK(same_bits(read_checkpoint(last_of(drawn.folder)).weights, read_checkpoint(last_of(plain.folder)).weights));
}

TEST_CASE("run: files of the log on a full disk are given up, the training is not (R24)") {
  const TemporaryFolder folder;
  TinyTraining training(folder / "run");
  training.set("solver.max_iterations=5");
  training.run();
  for (const char* name : {"metrics.jsonl", "results.csv", "train.log"}) {
    fs::remove(folder / "run" / name);
    fs::create_symlink("/dev/full", folder / "run" / name);
  }
  TinyTraining rest(folder / "run");
  rest.resume = "auto";
  const TrainingResult result = rest.run();
  CHECK(result.end == TrainingEnd::finished);
  CHECK(result.steps == 40);
  CHECK(read_checkpoint(last_of(folder / "run")).step == 40);
}

TEST_CASE("run: TensorBoard events tell what the logs tell") {
  const TemporaryFolder folder;
  TinyTraining training(folder / "run");
  training.set("run.tensorboard=true");
  training.set("solver.max_iterations=14");
  training.run();
  std::vector<fs::path> files;
  for (const auto& entry : fs::directory_iterator(folder / "run"))
    if (entry.path().filename().string().starts_with("events.out.tfevents")) files.push_back(entry.path());
  REQUIRE(files.size() == 1);
  std::map<std::string, std::vector<int64_t>> steps;
  std::map<std::string, float> last;
  for (const Event& event : read_events(files[0])) {
    for (const auto& [tag, value] : event.scalars) {
      steps[tag].push_back(event.step);
      last[tag] = value;
    }
  }
  CHECK(steps["train/loss"].size() == 14);
  CHECK(steps["train/loss_bce"].size() == 14);
  CHECK(steps["val/dice"] == std::vector<int64_t>{7, 14});
  CHECK(last["val/loss"] == std::stof(results(folder / "run")[1].at("val_loss")));
}

TEST_CASE("progress: durations") {
  CHECK(duration_text(5.4) == "5 s");
  CHECK(duration_text(187) == "3:07");
  CHECK(duration_text(3753) == "1:02:33");
}

TEST_SUITE_END();
