// Checkpoints under truncation, corruption, full disks and kills (R21, R24, R25, R30), and the rule of early stopping.
#include <doctest/doctest.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cmath>
#include <fstream>
#include <limits>

#include "data/atomic_file.h"
#include "data/safetensors.h"
#include "tensor/error.h"
#include "tensor/random.h"
#include "tests/checkpoint_fixture.h"
#include "tests/paths.h"
#include "train/checkpoint.h"
#include "train/config.h"
#include "train/early_stopping.h"

using namespace glia;
using tests::checkpoint_of;
using tests::holds;
using tests::names_in;
using tests::TemporaryFolder;
namespace fs = std::filesystem;

namespace {

void cut(const fs::path& file, uint64_t size) { fs::resize_file(file, size); }

}  // namespace

TEST_SUITE_BEGIN("train");

TEST_CASE("checkpoint: everything comes back to the bit") {
  const TemporaryFolder folder;
  Checkpoint c = checkpoint_of(12);
  c.state.set("third", 1.0 / 3);
  c.state.set("infinite", -std::numeric_limits<double>::infinity());
  write_checkpoint(folder / "a.safetensors", c);
  const Checkpoint back = read_checkpoint(folder / "a.safetensors");
  CHECK(back.model == "tiny");
  CHECK(back.config == c.config);
  CHECK(back.step == 12);
  CHECK(back.epoch == 1);
  CHECK(back.seed == 3);
  CHECK(back.best == c.best);
  CHECK(back.state.values() == c.state.values());
  CHECK(back.state.number("third") == 1.0 / 3);
  CHECK(back.state.number("infinite") == -std::numeric_limits<double>::infinity());
  CHECK(back.state.integer("count", 0) == 7);
  CHECK(back.state.text("name") == "x\ny");
  CHECK_FALSE(back.state.number("absent").has_value());
  CHECK(back.weights.size() == 2);
  CHECK(back.optimizer.at("optimizer.steps").item() == 12);
  CHECK(back.ema.at("conv.weight").values<float>()[0] == 0.75f);
  CHECK(back.inference_weights().at("conv.weight").values<float>()[0] == 0.75f);
  CHECK(back.inference_weights().at("conv.bias").values<float>()[0] == 0.25f);
  const Checkpoint light = read_checkpoint(folder / "a.safetensors", CheckpointUse::predict);
  CHECK(light.optimizer.empty());
  CHECK(light.config == c.config);
  CHECK(light.inference_weights().at("conv.weight").values<float>()[0] == 0.75f);
  CHECK(light.inference_weights().at("conv.bias").values<float>()[0] == 0.25f);
  const SafetensorsFile file(folder / "a.safetensors");
  for (const char* key : {"format", "model", "config", "step", "epoch", "seed", "best", "code_version"})
    CHECK(file.metadata().contains(key));
  CHECK(file.contains("ema.conv.weight"));
}

// An old one opens as long as this test is here: the file is of the first version and is not to be made anew.
TEST_CASE("checkpoint: format 1 stays readable") {
  const Checkpoint c = read_checkpoint(tests::fixtures_folder() / "checkpoint_1.safetensors");
  CHECK(c.model == "unet_keras");
  CHECK(c.step == 4);
  CHECK(c.epoch == 4);
  CHECK(c.seed == 0);
  CHECK(c.best == "loss 0.68731 at step 4");
  CHECK(c.state.number("best.value") == 0.6873077750205994);
  CHECK(c.weights.size() == c.ema.size());
  CHECK(c.weights.at("conv2d.bias").values<float>()[0] == 0.00381705305f);
  CHECK(c.ema.at("conv2d.bias").values<float>()[0] == 0.000869448413f);
  CHECK(c.optimizer.at("optimizer.steps").item() == 4);
  Config config;
  read_toml(config, c.config, "checkpoint_1.safetensors");
  CHECK_NOTHROW(check_config(config));
  CHECK(config.model.base_channels == 2);
  CHECK(config.solver.ema == 0.9);
}

TEST_CASE("checkpoint: cut short anywhere or with a changed bit it is refused (R25)") {
  const TemporaryFolder folder;
  const fs::path good = folder / "good.safetensors", bad = folder / "bad.safetensors";
  write_checkpoint(good, checkpoint_of(1, 40));
  const std::string bytes = read_file(good);
  const Philox random(5, 5);
  for (uint64_t i = 0; i < 500; ++i) {
    const size_t at = random.below(i, bytes.size());
    std::ofstream(bad, std::ios::binary | std::ios::trunc) << bytes.substr(0, at);
    CHECK_THROWS_AS(read_checkpoint(bad), DataError);
    std::string changed = bytes;
    changed[at] = static_cast<char>(changed[at] ^ (1 << (i % 8)));
    std::ofstream(bad, std::ios::binary | std::ios::trunc) << changed;
    CAPTURE(at);
    CHECK_THROWS_AS(read_checkpoint(bad), DataError);
    CHECK_THROWS_AS(read_checkpoint(bad, CheckpointUse::predict), DataError);  // wherever it is
  }
  CHECK_THROWS_AS(read_checkpoint(folder / "absent.safetensors"), IoError);
  write_safetensors(folder / "other.safetensors", {{"a", Tensor::zeros({2})}}, {}, {.checksums = true});
  CHECK_THROWS_WITH_AS(read_checkpoint(folder / "other.safetensors"), doctest::Contains("no checkpoint of Glia"), DataError);
  write_safetensors(folder / "bare.safetensors", {{"a", Tensor::zeros({2})}}, {{"format", std::string(checkpoint_format)}});
  CHECK_THROWS_WITH_AS(read_checkpoint(folder / "bare.safetensors"), doctest::Contains("checksums are missing"), DataError);
  write_safetensors(folder / "nostep.safetensors", {}, {{"format", std::string(checkpoint_format)}}, {.checksums = true});
  CHECK_THROWS_WITH_AS(read_checkpoint(folder / "nostep.safetensors"), doctest::Contains("\"step\" is missing"), DataError);
}

TEST_CASE("checkpoint: weights that are not finite are never written (R30)") {
  const TemporaryFolder folder;
  CheckpointFolder checkpoints(folder.path(), 3);
  checkpoints.save(checkpoint_of(1), true);
  for (const double value : {std::nan(""), HUGE_VAL}) {
    Checkpoint c = checkpoint_of(2);
    c.weights["conv.bias"].data<float>()[2] = static_cast<float>(value);
    CHECK_THROWS_WITH_AS(checkpoints.save(c, true), doctest::Contains("conv.bias holds numbers that are not finite"),
                         DivergedError);
  }
  Checkpoint c = checkpoint_of(2);
  c.ema["conv.weight"].data<float>()[0] = NAN;
  CHECK_THROWS_AS(checkpoints.save(c, true), DivergedError);
  CHECK(names_in(folder.path()) == std::set<std::string>{"best.safetensors", "last.safetensors", "step-000001.safetensors"});
}

TEST_CASE("checkpoint folder: last, best and the number of files kept") {
  const TemporaryFolder folder;
  CheckpointFolder checkpoints(folder / "checkpoints", 2);
  CHECK(checkpoints.empty());
  CHECK_FALSE(checkpoints.newest().has_value());
  checkpoints.create();
  for (int64_t step = 1; step <= 5; ++step) checkpoints.save(checkpoint_of(step), step == 2);
  CHECK(names_in(checkpoints.path()) ==
        std::set<std::string>{"best.safetensors", "last.safetensors", "step-000004.safetensors", "step-000005.safetensors"});
  CHECK(holds(read_checkpoint(checkpoints.last()), 5));
  CHECK(holds(read_checkpoint(checkpoints.best()), 2));
  CHECK(fs::equivalent(checkpoints.last(), checkpoints.step_file(5)));  // a link, not a copy
  checkpoints.save(checkpoint_of(5), true);                             // the same step again
  CHECK(holds(read_checkpoint(checkpoints.best()), 5));
  CHECK(names_in(checkpoints.path()).size() == 4);
  checkpoints.tag(checkpoints.best(), 4);
  CHECK(holds(read_checkpoint(checkpoints.best()), 4));

  // Going on from step 4: step 5 belongs to another run and must not be taken for the newest, nor push step 4 out.
  checkpoints.set_aside_after(4);
  CHECK(checkpoints.newest()->checkpoint.step == 4);
  CHECK(fs::exists(checkpoints.step_file(5).string() + ".aside"));
}

TEST_CASE("checkpoint folder: the newest that verifies, with the reasons for passing over others") {
  const TemporaryFolder folder;
  CheckpointFolder checkpoints(folder.path(), 5);
  for (int64_t step = 1; step <= 3; ++step) checkpoints.save(checkpoint_of(step), false);
  fs::remove(checkpoints.last());
  cut(checkpoints.step_file(3), 200);
  auto found = checkpoints.newest();
  REQUIRE(found);
  CHECK(holds(found->checkpoint, 2));
  REQUIRE(found->skipped.size() == 1);
  CHECK(found->skipped[0].find("step-000003.safetensors") != std::string::npos);
  std::fstream(checkpoints.step_file(2), std::ios::in | std::ios::out | std::ios::binary).seekp(-5, std::ios::end).put('!');
  found = checkpoints.newest();
  CHECK(holds(found->checkpoint, 1));
  CHECK(found->skipped.size() == 2);
  cut(checkpoints.step_file(1), 0);
  CHECK_THROWS_WITH_AS(checkpoints.newest(), doctest::Contains("no checkpoint can be used"), DataError);
}

TEST_CASE("checkpoint folder: killed at any moment it loses nothing (R21)") {
  const TemporaryFolder folder;
  const Philox random(21, 0);
  const auto start = std::chrono::steady_clock::now();
  {
    const TemporaryFolder elsewhere;
    CheckpointFolder checkpoints(elsewhere.path(), 2);
    checkpoints.create();
    checkpoints.save(checkpoint_of(1, 200'000), true);
  }
  const auto save = std::chrono::duration_cast<std::chrono::microseconds>(std::chrono::steady_clock::now() - start);
  const auto longest = std::max<uint64_t>(30'000, uint64_t(4 * save.count()));  // a few saves, however slow the build
  int64_t before = 0;
  for (uint64_t round = 0; round < 100; ++round) {
    const pid_t child = ::fork();
    REQUIRE(child >= 0);
    if (child == 0) {  // writes back to back until it is killed
      try {
        CheckpointFolder checkpoints(folder.path(), 2);
        checkpoints.create();
        for (int64_t step = before + 1;; ++step) checkpoints.save(checkpoint_of(step, 200'000), step % 3 == 0);
      } catch (...) {
        ::_exit(1);
      }
    }
    ::usleep(static_cast<unsigned>(2000 + random.below(round, longest)));
    ::kill(child, SIGKILL);
    int status = 0;
    ::waitpid(child, &status, 0);
    REQUIRE(WIFSIGNALED(status));  // else it ended by an error
    CheckpointFolder checkpoints(folder.path(), 2);
    if (checkpoints.empty()) continue;  // killed before the first was whole
    const auto found = checkpoints.newest();
    REQUIRE(found);
    CHECK(found->skipped.empty());  // no name ever held half a file
    CHECK(found->checkpoint.step >= before);
    CHECK(holds(found->checkpoint, found->checkpoint.step));
    if (fs::exists(checkpoints.last())) CHECK_NOTHROW(read_checkpoint(checkpoints.last()));
    if (fs::exists(checkpoints.best())) CHECK_NOTHROW(read_checkpoint(checkpoints.best()));
    before = found->checkpoint.step;
    checkpoints.create();
    for (const std::string& name : names_in(folder.path())) CHECK(name[0] != '.');  // leftovers of the dead are gone
  }
  CHECK(before > 0);
}

TEST_CASE("checkpoint folder: a full disk and folders that cannot be made (R24)") {
  CHECK_THROWS_AS(CheckpointFolder("/proc/glia", 1).create(), IoError);
  const TemporaryFolder folder;
  std::ofstream(folder / "file") << "x";
  CHECK_THROWS_AS(CheckpointFolder(folder / "file" / "checkpoints", 1).create(), IoError);

  fs::create_directories(folder / "small");
  if (::mount("tmpfs", (folder / "small").c_str(), "tmpfs", 0, "size=1m") != 0) {
    MESSAGE("no right to mount a small file system: only simulated full disks were tested");
    return;
  }
  CheckpointFolder checkpoints(folder / "small", 10);
  std::string message;
  int64_t step = 1;
  try {
    for (; step < 10; ++step) checkpoints.save(checkpoint_of(step, 20'000), false);
  } catch (const IoError& e) {
    message = e.what();
  }
  CHECK(message.find("the disk is full. Earlier checkpoints are whole") != std::string::npos);  // seen before writing
  CHECK(step > 1);
  CHECK(holds(read_checkpoint(checkpoints.last()), step - 1));
  CHECK(names_in(folder / "small").size() == static_cast<size_t>(step));  // no half file
  // What the check does not see, others may fill the disk meanwhile: the system itself says so, on the way.
  CHECK_THROWS_WITH_AS(write_checkpoint(folder / "small" / "more.safetensors", checkpoint_of(99, 100'000)),
                       doctest::Contains("No space left on device"), IoError);
  CHECK(names_in(folder / "small").size() == static_cast<size_t>(step));
  CHECK(holds(read_checkpoint(checkpoints.last()), step - 1));
  ::umount((folder / "small").c_str());
}

TEST_CASE("early stopping counts as Keras does") {
  // The evaluation (from 1) at which a training with these values stops; 0: it doesn't.
  const auto stops_at = [](EarlyStopping rule, const std::vector<double>& values) {
    for (size_t i = 0; i < values.size(); ++i)
      if (rule.update(values[i])) return i + 1;
    return size_t(0);
  };
  const double nan = std::nan("");
  CHECK(stops_at({.patience = 2}, {5, 4, 4, 4, 1}) == 4);        // equal is no gain
  CHECK(stops_at({.patience = 2}, {5, 6, 4, 5, 3, 4, 2}) == 0);  // a gain starts the count anew
  CHECK(stops_at({.patience = 10}, {1, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 0}) == 11);
  CHECK(stops_at({.patience = 0}, {5, 4, 3, 3}) == 4);
  CHECK(stops_at({.patience = 1}, {nan, nan, nan}) == 2);  // never the first
  CHECK(stops_at({.patience = 2}, {nan, 5, 4, nan, 3, nan, nan}) == 7);
  CHECK(stops_at({.patience = 2, .min_delta = 0.5}, {5, 4.6, 4.2}) == 0);
  CHECK(stops_at({.patience = 2, .min_delta = 0.5}, {5, 4.6, 4.5, 4}) == 3);
  CHECK(stops_at({.patience = 2, .start_from = 3}, {1, 1, 1, 1, 1, 1}) == 6);
  CHECK(stops_at({.metric = "dice", .patience = 2}, {0.1, 0.2, 0.1, 0.2, 0.9}) == 4);
  CHECK(stops_at({.metric = "loss_bce", .patience = 2}, {0.3, 0.2, 0.1, 0.05}) == 0);

  EarlyStopping rule{.patience = 3};
  for (const double v : {3.0, 2.0, 2.5, 2.5}) CHECK_FALSE(rule.update(v));
  TrainingState state;
  rule.save(state);
  EarlyStopping again{.patience = 3}, other{.metric = "dice", .patience = 3};
  again.load(state);
  CHECK(again.best == 2.0);
  CHECK(again.wait == 2);
  CHECK_FALSE(again.exhausted());
  CHECK(again.update(2.5));
  CHECK(again.exhausted());
  other.load(state);  // of another metric: from the beginning
  CHECK_FALSE(other.best.has_value());
}

TEST_SUITE_END();
