// Trainings that go on: bits that depend on nothing but the seed (R8), resume at any step (R10), signals, broken checkpoints, refusals.
#include <doctest/doctest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>
#include <set>

#include "data/atomic_file.h"
#include "tensor/parallel.h"
#include "tests/paths.h"
#include "tests/train_files.h"

using namespace glia;
using namespace glia::tests;
namespace fs = std::filesystem;

TEST_SUITE_BEGIN("train");

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
  const int before = num_threads();
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
    set_num_threads(static_cast<int>(1 + k % 3));  // a run may go on with other numbers of both
    CHECK(rest.run().steps == 40);
    set_num_threads(before);
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

TEST_SUITE_END();
