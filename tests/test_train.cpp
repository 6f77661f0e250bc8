// The trainer and the loop of a run: what a step does, bits that depend on nothing but the seed (R8), resume at any step (R10),
// signals, early stopping, divergence (R27, R28), logs on a full disk (R24), refusals.
#include <doctest/doctest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmath>
#include <cstring>
#include <fstream>
#include <set>

#include "data/atomic_file.h"
#include "data/safetensors.h"
#include "kernels/unary.h"
#include "tensor/parallel.h"
#include "tests/paths.h"
#include "tests/train_fixture.h"

using namespace glia;
using tests::TemporaryFolder;
using tests::TinyNet;
using tests::TinyTraining;
namespace fs = std::filesystem;

namespace {

bool same_bits(const StateDict& a, const StateDict& b) {
  if (a.size() != b.size()) return false;
  for (const auto& [name, t] : a) {
    const auto it = b.find(name);
    if (it == b.end() || !same_shape(t, it->second) || t.dtype() != it->second.dtype()) return false;
    if (std::memcmp(t.raw(), it->second.raw(), t.bytes()) != 0) return false;
  }
  return true;
}

// Weights, optimizer, average and everything remembered.
bool same_checkpoint(const fs::path& a, const fs::path& b) {
  const Checkpoint x = read_checkpoint(a), y = read_checkpoint(b);
  return x.step == y.step && x.epoch == y.epoch && x.best == y.best && x.state.values() == y.state.values() &&
         same_bits(x.weights, y.weights) && same_bits(x.optimizer, y.optimizer) && same_bits(x.ema, y.ema);
}

// metrics.jsonl without what depends on the clock, the machine and the process.
std::string timeless_metrics(const fs::path& folder) {
  std::string text, result;
  text = read_file(folder / "metrics.jsonl");
  for (size_t at = 0; at < text.size();) {
    const size_t end = text.find('\n', at);
    const std::string line = text.substr(at, end - at);
    result += line.substr(0, line.find(",\"images_per_s\"")) + "\n";
    at = end + 1;
  }
  return result;
}

std::vector<std::map<std::string, std::string>> results(const fs::path& folder) {
  std::ifstream in(folder / "results.csv");
  std::vector<std::string> columns;
  std::vector<std::map<std::string, std::string>> rows;
  for (std::string line; std::getline(in, line);) {
    std::vector<std::string> cells{""};
    for (const char c : line) {
      if (c == ',') {
        cells.emplace_back();
      } else {
        cells.back() += c;
      }
    }
    if (columns.empty()) {
      columns = cells;
      continue;
    }
    auto& row = rows.emplace_back();
    for (size_t i = 0; i < cells.size(); ++i) row[columns[i]] = cells[i];
    row.erase("memory");
  }
  return rows;
}

std::set<std::string> names_in(const fs::path& folder) {
  std::set<std::string> names;
  for (const auto& entry : fs::directory_iterator(folder)) names.insert(entry.path().filename().string());
  return names;
}

template <class E>
std::string message_of(TinyTraining& training) {
  try {
    training.run();
  } catch (const E& e) {
    return e.what();
  }
  return "no such error";
}

bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

fs::path last_of(const fs::path& folder) { return folder / "checkpoints" / "last.safetensors"; }

}  // namespace

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

TEST_CASE("run: the bits depend on neither threads nor loader workers (R8)") {
  const TemporaryFolder folder;
  const int before = num_threads();
  TinyTraining first(folder / "a");
  set_num_threads(1);
  first.workers = 0;
  first.run();
  for (const auto& [threads, workers] : {std::pair{2, 1}, {8, 3}, {1, 2}}) {
    CAPTURE(threads);
    set_num_threads(threads);
    TinyTraining other(folder / fmt::format("b{}", threads));
    other.workers = workers;
    other.run();
    CHECK(same_checkpoint(last_of(first.folder), last_of(other.folder)));
    CHECK(timeless_metrics(first.folder) == timeless_metrics(other.folder));
  }
  set_num_threads(before);
  TinyTraining seed(folder / "c");
  seed.set("run.seed=6");
  seed.run();
  CHECK_FALSE(same_checkpoint(last_of(first.folder), last_of(seed.folder)));
}

TEST_CASE("run: 40 steps = k steps, stop, resume, for every k (R10)") {
  const TemporaryFolder folder;
  const auto set_up = [](TinyTraining& t) {
    t.set("solver.schedule=plateau");
    t.set("solver.plateau_metric=noise");
    t.set("solver.plateau_patience=1");
    t.set("solver.gamma=0.5");
    t.set("early_stopping.metric=dice");
    t.set("early_stopping.patience=50");
  };
  TinyTraining whole(folder / "whole");
  set_up(whole);
  whole.run();
  CHECK(contains(timeless_metrics(whole.folder), "\"lr\":0.005,"));  // the plateau was met on the way
  for (int64_t k = 1; k <= 39; ++k) {
    CAPTURE(k);
    const fs::path run = folder / fmt::format("run{}", k);
    TinyTraining part(run);
    set_up(part);
    part.stop_after = k;
    const TrainingResult result = part.run();
    CHECK(result.end == TrainingEnd::interrupted);
    CHECK(result.exit_code() == ExitCode::interrupted);
    CHECK(result.steps == k);
    TinyTraining rest(run);
    set_up(rest);
    rest.resume = "auto";
    rest.workers = k % 4 == 3 ? 0 : static_cast<int>(k % 4);
    CHECK(rest.run().steps == 40);
    CHECK(same_checkpoint(last_of(whole.folder), last_of(run)));
    CHECK(same_checkpoint(whole.folder / "checkpoints" / "best.safetensors", run / "checkpoints" / "best.safetensors"));
    CHECK(timeless_metrics(whole.folder) == timeless_metrics(run));
    CHECK(results(whole.folder) == results(run));
  }
}

TEST_CASE("run: stopped in an evaluation, by a signal, or killed, it goes on to the same end (R10)") {
  const TemporaryFolder folder;
  TinyTraining whole(folder / "whole");
  whole.run();
  const auto check_rest = [&](const fs::path& run) {
    TinyTraining rest(run);
    rest.resume = "auto";
    rest.run();
    CHECK(same_checkpoint(last_of(whole.folder), last_of(run)));
    CHECK(timeless_metrics(whole.folder) == timeless_metrics(run));
    CHECK(results(whole.folder) == results(run));
  };

  TinyTraining in_evaluation(folder / "evaluation");
  in_evaluation.stop_in_evaluation = 2;
  CHECK(in_evaluation.run().steps == 14);
  CHECK(results(in_evaluation.folder).size() == 1);
  check_rest(in_evaluation.folder);

  for (const int signal : {SIGTERM, SIGINT, SIGUSR1}) {
    TinyTraining by_signal(folder / fmt::format("signal{}", signal));
    int64_t calls = 0;
    const auto losses = by_signal.losses;
    by_signal.losses = [&](TinyNet& net, const Batch& b) {
      if (++calls == 9) ::raise(signal);
      return losses(net, b);
    };
    const TrainingResult result = by_signal.run();
    CHECK(result.end == TrainingEnd::interrupted);
    CHECK(result.steps == 9);  // the step under way was finished and saved
    check_rest(by_signal.folder);
  }

  const fs::path killed = folder / "killed";
  set_num_threads(1);  // a forked child has no thread pool
  const pid_t child = ::fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    TinyTraining victim(killed);
    victim.workers = 0;
    int64_t calls = 0;
    const auto losses = victim.losses;
    victim.losses = [&](TinyNet& net, const Batch& b) {
      if (++calls == 26) ::kill(::getpid(), SIGKILL);
      return losses(net, b);
    };
    victim.run();
    ::_exit(0);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  CHECK(WIFSIGNALED(status));
  CHECK(read_checkpoint(last_of(killed)).step >= 20);
  CHECK(read_checkpoint(last_of(killed)).step < 26);
  check_rest(killed);
}

TEST_CASE("run: resuming passes over broken checkpoints and says so") {
  const TemporaryFolder folder;
  TinyTraining whole(folder / "whole");
  whole.run();
  TinyTraining part(folder / "part");
  part.stop_after = 33;
  part.run();
  const fs::path checkpoints = folder / "part" / "checkpoints";
  fs::remove(checkpoints / "best.safetensors");
  fs::resize_file(checkpoints / "step-000033.safetensors", 1000);  // last.safetensors is the same file
  TinyTraining rest(folder / "part");
  rest.resume = "auto";
  rest.run();
  CHECK(same_checkpoint(last_of(whole.folder), last_of(rest.folder)));
  CHECK(timeless_metrics(whole.folder) == timeless_metrics(rest.folder));
  const std::string log = read_file(folder / "part" / "train.log");
  CHECK(contains(log, "skipped: " + (checkpoints / "step-000033.safetensors").string()));
  CHECK(read_checkpoint(checkpoints / "best.safetensors").step > 0);
  CHECK(contains(log, "going on from " + (checkpoints / "step-000030.safetensors").string() + ", step 30"));

  for (const auto& entry : fs::directory_iterator(checkpoints)) fs::resize_file(entry.path(), 100);
  CHECK(contains(message_of<DataError>(rest), "no checkpoint can be used"));
}

TEST_CASE("run: a crash between a checkpoint and its other names is repaired on resume") {
  const TemporaryFolder folder;
  TinyTraining part(folder / "run");
  part.set("solver.max_iterations=7");
  part.run();
  const fs::path checkpoints = folder / "run" / "checkpoints";
  fs::remove(checkpoints / "best.safetensors");
  fs::remove(checkpoints / "last.safetensors");
  TinyTraining rest(folder / "run");
  rest.resume = "auto";
  rest.set("solver.max_iterations=9");
  rest.scripted_dice = [](int64_t) { return -1.0; };  // nothing beats step 7
  rest.run();
  CHECK(read_checkpoint(checkpoints / "best.safetensors").step == 7);
  CHECK(read_checkpoint(checkpoints / "last.safetensors").step == 9);
}

TEST_CASE("run: a finished training goes on when its limit is raised, and starts from another run's checkpoint") {
  const TemporaryFolder folder;
  TinyTraining whole(folder / "whole");
  whole.run();
  TinyTraining training(folder / "run");
  training.set("solver.max_iterations=25");
  training.set("checkpoint.keep=99");
  CHECK(training.run().end == TrainingEnd::finished);
  TinyTraining more(folder / "run");
  more.resume = "auto";
  more.set("checkpoint.keep=99");
  CHECK(more.run().steps == 40);
  const Checkpoint a = read_checkpoint(last_of(whole.folder)), b = read_checkpoint(last_of(more.folder));
  CHECK(same_bits(a.weights, b.weights));
  CHECK(same_bits(a.optimizer, b.optimizer));
  CHECK(same_bits(a.ema, b.ema));
  CHECK(results(more.folder).size() == results(whole.folder).size() + 1);  // and the one at the end of the first part

  TinyTraining again(folder / "run");  // nothing left to do
  again.resume = "auto";
  again.set("checkpoint.keep=99");
  CHECK(again.run().steps == 40);
  CHECK(timeless_metrics(whole.folder) == timeless_metrics(again.folder));

  TinyTraining from_file(folder / "elsewhere");
  from_file.resume = (folder / "run" / "checkpoints" / "step-000030.safetensors").string();
  CHECK(from_file.run().steps == 40);
  CHECK(same_bits(a.weights, read_checkpoint(last_of(from_file.folder)).weights));
  TinyTraining from_folder(folder / "elsewhere too");
  from_folder.resume = (folder / "run").string();
  CHECK(from_folder.run().steps == 40);
}

TEST_CASE("run: what cannot go on is refused with the reason") {
  const TemporaryFolder folder;
  TinyTraining training(folder / "run");
  training.set("solver.max_iterations=10");
  training.run();
  TinyTraining again(folder / "run");
  CHECK(contains(message_of<UsageError>(again), "holds a run already; go on with it by --resume auto"));
  again.resume = "auto";
  again.set("solver.lr=0.5");
  again.set("solver.clip_norm=1");
  const std::string message = message_of<UsageError>(again);
  CHECK(contains(message, "solver.lr: 0.01 in the run, 0.5 now (command line)"));
  CHECK(contains(message, "solver.clip_norm: 0.0 in the run, 1.0 now (command line)"));
  CHECK_FALSE(contains(message, "max_iterations"));

  TinyTraining data(folder / "run");
  data.resume = "auto";
  data.images = 30;
  CHECK(contains(message_of<UsageError>(data), "was trained with 3 batches per epoch, now there are 6"));

  TinyTraining other(folder / "other");
  other.set("solver.max_iterations=10");
  other.run();
  other.resume = last_of(training.folder).string();
  CHECK(contains(message_of<UsageError>(other), "holds another run"));
  other.resume = (folder / "absent.safetensors").string();
  CHECK(contains(message_of<IoError>(other), "absent.safetensors"));
  fs::create_directories(folder / "empty");
  other.resume = (folder / "empty").string();
  CHECK(contains(message_of<DataError>(other), "no checkpoint in it"));

  std::ofstream(folder / "run" / "mine.txt") << "keep";
  TinyTraining replaced(folder / "run");
  replaced.overwrite = true;
  replaced.set("solver.max_iterations=3");
  CHECK(replaced.run().steps == 3);
  CHECK(names_in(folder / "run" / "checkpoints") ==
        std::set<std::string>{"best.safetensors", "last.safetensors", "step-000003.safetensors"});
  CHECK(fs::exists(folder / "run" / "mine.txt"));

  TinyTraining fresh(folder / "fresh");  // auto without anything to resume starts anew
  fresh.resume = "auto";
  fresh.set("solver.max_iterations=3");
  CHECK(fresh.run().steps == 3);

  std::ofstream(folder / "file") << "x";
  TinyTraining no_folder(folder / "file");
  CHECK(contains(message_of<IoError>(no_folder), "is a file"));
  no_folder.folder = "/proc/glia";
  CHECK(contains(message_of<IoError>(no_folder), "/proc/glia"));

  TinyTraining metric(folder / "metric");
  metric.set("eval.metric=dise");
  CHECK(contains(message_of<UsageError>(metric),
                 "eval.metric = \"dise\": no such metric (did you mean dice?); there are loss, dice, noise"));
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

TEST_CASE("run: a loss or gradient that is not finite ends it before the update, and is explained (R27, R28)") {
  const TemporaryFolder folder;
  const auto report_of = [&](const std::string& name, const std::function<void(TinyTraining&)>& inject) {
    TinyTraining training(folder / name);
    training.set("checkpoint.every=4");
    training.set("run.on_nan=stop");
    inject(training);
    std::string message;
    try {
      training.run();
    } catch (const DivergedError& e) {
      message = e.what();
      CHECK(e.code() == ExitCode::diverged);
    }
    CAPTURE(message);
    CHECK(contains(message, "the update was not applied"));
    CHECK(contains(message, "learning rate 0.01"));
    CHECK(contains(message, "likely cause: "));
    CHECK(contains(read_file(folder / name / "train.log"), "is not finite"));
    return message;
  };
  const auto at_step = [](int64_t step, TinyTraining& t, const std::function<Tensor(const Tensor& logits)>& change) {
    t.losses = [=, calls = int64_t(0)](TinyNet& net, const Batch& b) mutable -> NamedLosses {
      ++calls;
      Tensor z = net(b.tensors[0]);
      if (calls >= step) z = change(z);
      return {{"bce", apply(BceWithLogits{}, z, b.tensors[1], Tensor(), Tensor())}};
    };
  };

  const std::string image = report_of("image", [](TinyTraining& t) {
    t.load = [](int64_t i) {
      Example e = tests::tiny_example(i);
      if (i == 7) e.image.data<float>()[3] = NAN;
      return e;
    };
  });
  CHECK(contains(image, "first tensor that is not finite: image img7 (tensor 0 of the batch)"));
  CHECK(contains(image, "img7 (tensor 0 of the batch) holds numbers that are not finite: look at its file"));

  const std::string weight = report_of("weight", [](TinyTraining& t) {
    t.after_initialisation = [](TinyNet& net) { net.parameters()[0].tensor->data<float>()[1] = INFINITY; };
  });
  CHECK(contains(weight, "step 1: "));
  CHECK(contains(weight, "first tensor that is not finite: parameter first.weight, before the step"));
  CHECK(contains(weight, "last good checkpoint: none yet"));

  const std::string overflow = report_of("overflow", [](TinyTraining& t) {
    t.after_initialisation = [](TinyNet& net) {
      for (const NamedTensor& p : net.parameters())
        if (p.name == "second.weight") p.tensor->fill(3e38);
    };
  });
  CHECK(contains(overflow, "the output of conv2d with second.weight, second.bias (forward)"));
  CHECK(contains(overflow, "images: img"));

  const std::string forward = report_of("forward", [&](TinyTraining& t) {
    at_step(6, t, [](const Tensor& z) { return apply(Log{}, apply(Neg{}, apply(Square{}, z))); });
  });
  CHECK(contains(forward, "step 6: the loss is not finite"));
  CHECK(contains(forward, "the output of log (forward)"));
  CHECK(contains(forward, "last good checkpoint: " + last_of(folder / "forward").string()));
  CHECK(contains(forward, "loss terms: bce nan"));

  const std::string backward = report_of("backward", [&](TinyTraining& t) {
    at_step(6, t, [](const Tensor& z) {
      z.data<float>()[0] = 0;  // the root's derivative there is infinite
      return apply(Sqrt{}, apply(Square{}, z));
    });
  });
  CHECK(contains(backward, "step 6: the gradient is not finite"));
  CAPTURE(backward);
  CHECK(contains(backward, "a gradient from sqrt (backward)"));

  CHECK(read_checkpoint(last_of(folder / "forward")).step == 4);
}

TEST_CASE("trainer: a step that diverges changes neither weights nor statistics (R27)") {
  LoaderOptions options;
  options.batch_size = 4;
  options.workers = 0;
  options.prepare = tests::tiny_prepare;
  Loader loader(12, tests::tiny_example, options);
  TinyNet net;
  net.initialize(3);
  int64_t calls = 0;
  const LossFunction losses = [&](const Batch& b) -> NamedLosses {
    Tensor z = net(b.tensors[0]);
    if (++calls >= 4) z = apply(Log{}, apply(Neg{}, apply(Square{}, z)));
    return {{"bce", apply(BceWithLogits{}, z, b.tensors[1], Tensor(), Tensor())}};
  };
  TrainerOptions o;
  o.ema = 0.5;
  Trainer trainer(net, losses, loader, o);
  for (int i = 0; i < 3; ++i) trainer.step();
  Checkpoint before, after;
  trainer.save(before);
  CHECK_THROWS_AS(trainer.step(), DivergedError);
  trainer.save(after);
  CHECK(same_bits(before.weights, after.weights));
  CHECK(same_bits(before.optimizer, after.optimizer));
  CHECK(same_bits(before.ema, after.ema));
  CHECK(after.step == 3);
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
