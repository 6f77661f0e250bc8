// Whatever system call of writing fails, and whenever the power goes: a checkpoint that verifies is there (R22, R23).
#include <doctest/doctest.h>
#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <map>
#include <set>

#include "tensor/random.h"
#include "tests/checkpoint_fixture.h"
#include "tests/file_faults.h"
#include "tests/paths.h"
#include "tests/power_loss.h"
#include "tests/train_fixture.h"

using namespace glia;
using tests::checkpoint_of;
using tests::FaultyFiles;
using tests::FileFault;
using tests::holds;
using tests::names_in;
using tests::TemporaryFolder;
using tests::TinyTraining;
namespace fs = std::filesystem;

namespace {

constexpr FileFault kinds_of_fault[] = {{.error = EIO},
                                        {.error = ENOSPC},
                                        {.error = EINTR},
                                        {.error = 0},
                                        {.error = EIO, .for_ever = true},
                                        {.error = ENOSPC, .for_ever = true},
                                        {.error = EINTR, .for_ever = true},
                                        {.error = 0, .for_ever = true}};

// The folder holds a checkpoint of at least this step, and no name of a checkpoint has anything else.
void check_whole(const CheckpointFolder& checkpoints, int64_t at_least) {
  const auto found = checkpoints.newest();
  REQUIRE(found);
  CHECK(found->skipped.empty());
  CHECK(found->checkpoint.step >= at_least);
  CHECK(holds(found->checkpoint, found->checkpoint.step));
  for (const fs::path& name : {checkpoints.last(), checkpoints.best()})
    if (fs::exists(name)) CHECK_NOTHROW(read_checkpoint(name));
}

}  // namespace

TEST_SUITE_BEGIN("train");

TEST_CASE("checkpoint folder: whichever system call fails, once or for ever, what was there is whole (R22)") {
  for (FileFault fault : kinds_of_fault) {
    bool reached_the_end = false;
    for (int n = 1; n < 100 && !reached_the_end; ++n) {
      CAPTURE(n);
      CAPTURE(fault.error);
      CAPTURE(fault.for_ever);
      const TemporaryFolder folder;
      CheckpointFolder checkpoints(folder.path(), 1);
      checkpoints.save(checkpoint_of(1), true);
      fault.at = n;
      bool failed = false;
      {
        const FaultyFiles faulty(fault);
        try {
          checkpoints.save(checkpoint_of(2), true);
        } catch (const IoError& e) {
          failed = true;
          const std::string text = e.what();
          CHECK(text.find(folder.path().string()) != std::string::npos);
          CHECK(text.find(std::strerror(fault.error)) != std::string::npos);
        }
        reached_the_end = faulty.count() < n;
      }
      check_whole(checkpoints, failed ? 1 : 2);
      if (fault.error == 0 || (fault.error == EINTR && !fault.for_ever)) CHECK_FALSE(failed);
      checkpoints.save(checkpoint_of(3), false);  // and it goes on
      CHECK(holds(read_checkpoint(checkpoints.last()), 3));
      for (const std::string& name : names_in(folder.path())) CHECK((name[0] != '.' || fault.for_ever));
    }
    CHECK(reached_the_end);
  }
}

TEST_CASE("run: with checkpoint.on_error = warn a training goes on where one cannot be written, with stop it ends (R22)") {
  const auto run = [&](const fs::path& folder, const char* on_error, const FileFault& fault, int& calls) {
    TinyTraining t(folder);
    t.set("solver.max_iterations=3");
    t.set("checkpoint.every=1");
    t.set("eval.every=3");
    t.set("checkpoint.on_error=" + std::string(on_error));
    std::string message;
    const FaultyFiles faulty(fault);
    try {
      const TrainingResult result = t.run();
      CHECK(result.steps == 3);
    } catch (const IoError& e) {
      message = e.what();
      CHECK(message.find(folder.string()) != std::string::npos);
    }
    calls = faulty.count();
    return message;
  };
  const TemporaryFolder folder;
  int all = 0, calls = 0;
  CHECK(run(folder / "whole", "stop", {}, all).empty());
  const Checkpoint whole = read_checkpoint(folder / "whole" / "checkpoints" / "last.safetensors");
  int ended = 0, went_on = 0;
  for (int n = 1; n <= all; ++n) {
    CAPTURE(n);
    for (const char* on_error : {"stop", "warn"}) {
      for (const bool for_ever : {false, true}) {
        if (for_ever && std::string(on_error) == "stop") continue;  // ends at the first failure in any case
        const fs::path run_folder = folder / fmt::format("{}{}{}", on_error, n, for_ever);
        const std::string message = run(run_folder, on_error, {.at = n, .error = ENOSPC, .for_ever = for_ever}, calls);
        const CheckpointFolder checkpoints(run_folder / "checkpoints", 2);
        const auto found = checkpoints.empty() ? std::nullopt : checkpoints.newest();
        if (found) CHECK(found->skipped.empty());
        if (message.empty()) {
          REQUIRE(found);
          CHECK(found->checkpoint.step == 3);
          CHECK(read_checkpoint(checkpoints.last()).step == 3);
        }
        if (std::string(on_error) == "warn" && !for_ever) (message.empty() ? went_on : ended) += 1;
        fs::remove_all(run_folder);
      }
    }
  }
  CHECK(went_on > ended);  // what must be written is config.toml and the last checkpoint

  // The metric's best that could not be written is not taken for best.safetensors' later on.
  TinyTraining t(folder / "best");
  t.set("checkpoint.on_error=warn");
  t.set("eval.every=10");
  t.scripted_dice = [](int64_t evaluation) { return std::array{0.5, 0.9, 0.3, 0.4}[size_t(evaluation - 1)]; };
  const auto losses = t.losses;
  std::optional<FaultyFiles> faulty;
  t.losses = [&, calls = 0](tests::TinyNet& net, const Batch& b) mutable {
    ++calls;
    if (calls == 15) faulty.emplace(FileFault{.at = 1, .error = EIO, .for_ever = true});  // over the evaluation of step 20
    if (calls == 25) faulty.reset();
    return losses(net, b);
  };
  CHECK(t.run().best == "dice 0.5 at step 10");
  CHECK(read_checkpoint(t.folder / "checkpoints" / "best.safetensors").step == 10);
}

TEST_CASE("checkpoint folder: whenever the power goes, the newest that was saved is there (R23)") {
  const TemporaryFolder folder;
  tests::WriteLog log(folder / "written");
  CheckpointFolder checkpoints(folder / "written", 2);
  checkpoints.create();
  std::vector<std::pair<size_t, int64_t>> saved;  // after so many operations, this step's save() had returned
  for (int64_t step = 1; step <= 6; ++step) {
    checkpoints.save(checkpoint_of(step), step % 2 == 1);
    saved.emplace_back(log.size(), step);
  }
  checkpoints.save(checkpoint_of(6), true);  // the same step again
  log.stop();
  REQUIRE(log.size() > 60);

  const Philox random(23, 0);
  const fs::path disk = folder / "disk";
  int64_t lost_writes = 0;
  for (uint64_t round = 0; round < 1000; ++round) {
    CAPTURE(round);
    const size_t cut = random.below(2 * round, log.size() + 1);
    CAPTURE(cut);
    lost_writes += log.after_power_loss(cut, random.below(2 * round + 1, uint64_t(1) << 60), disk);
    int64_t step = 0;
    for (const auto& [operations, s] : saved)
      if (operations <= cut) step = s;
    const CheckpointFolder survivor(disk, 2);
    if (step > 0 || !survivor.empty()) check_whole(survivor, step);
  }
  CHECK(lost_writes > 1000);  // the simulation did drop what was not synced
}

TEST_SUITE_END();
