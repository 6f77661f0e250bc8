#include <doctest/doctest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>

#include "apps/compare_plan.h"
#include "tensor/error.h"
#include "tests/paths.h"

using namespace glia;
using Words = std::vector<std::string>;

TEST_SUITE_BEGIN("train");

TEST_CASE("comparison: times with their unit") {
  CHECK(parse_duration("90s") == 90);
  CHECK(parse_duration("1.5h") == 5400);
  for (const char* wrong : {"30", "s", "-1m", "0s", "3d", "1e9h"}) CHECK_THROWS_AS(parse_duration(wrong), UsageError);
}

TEST_CASE("comparison: steps fill 85 % of the budget, and the schedule moves along") {
  Config config;
  config.solver.max_iterations = 1000;
  config.solver.warmup_iterations = 100;
  config.solver.milestones = {600, 900};
  const Pace pace{.step_seconds = 0.5, .image_seconds = 1e-3};
  const ImageCounts images{.training = 343, .validation = 86};
  int64_t steps = 0;
  CHECK(plan_of_training(config, images, pace, 100, steps) ==
        Words{"solver.max_iterations=170", "eval.every=34", "solver.warmup_iterations=17", "solver.milestones=[102,153]"});
  CHECK(steps == 170);
  CHECK(plan_of_training(config, images, pace, 1e5, steps) == Words{"solver.max_iterations=1000", "eval.every=200"});  // as it is
  config.solver.max_iterations = config.solver.max_epochs = 0;
  plan_of_training(config, images, pace, 100, steps);
  CHECK(steps == 170);
}

TEST_CASE("comparison: a recipe that counts epochs is shortened as one that counts steps") {
  Config config;
  config.solver.batch_size = 8;
  config.solver.max_epochs = 500;  // of 5 steps
  config.solver.schedule = "cellpose";
  const Pace pace{.step_seconds = 0.5, .image_seconds = 1e-3};
  const ImageCounts images{.training = 36, .validation = 9};
  int64_t steps = 0;
  CHECK(plan_of_training(config, images, pace, 600, steps) ==
        Words{"solver.max_iterations=1020", "eval.every=204", "solver.period=2"});
  CHECK(plan_of_training(config, images, pace, 100, steps) ==
        Words{"solver.max_iterations=170", "eval.every=34", "solver.period=1"});
  CHECK(plan_of_training(config, images, pace, 1e5, steps) == Words{"solver.max_iterations=2500", "eval.every=500"});
  config.data.repeat = 2;
  config.solver.accumulate = 4;
  plan_of_training(config, images, pace, 1e5, steps);
  CHECK(steps == 1125);
}

TEST_CASE("comparison: evaluations fit in the rest of the budget") {
  struct Case {
    double image_seconds;
    int64_t images, limit;  // of validation; eval.max_images
    Words evaluations;
  };
  const Case cases[] = {
      {0.001, 86, 0, {"eval.every=34"}},
      {1, 86, 0, {"eval.every=170", "eval.max_images=15"}},    // one of as many as there is time for
      {0.25, 86, 0, {"eval.every=57", "eval.max_images=20"}},  // three
      {0.04, 86, 0, {"eval.every=34", "eval.max_images=75"}},  // five
      {1, 3, 0, {"eval.every=34"}},                            // there are few
      {100, 86, 0, {"eval.every=170", "eval.max_images=1"}},   // one at least
      {1, 86, 2, {"eval.every=34"}},                           // the recipe's own limit
      {1, 86, 50, {"eval.every=170", "eval.max_images=15"}},   // is too high
      {0, 0, 0, {"eval.every=34"}},                            // nothing to evaluate on
  };
  for (const Case& c : cases) {
    Config config;
    config.solver.max_iterations = 170;
    config.eval.max_images = c.limit;
    int64_t steps = 0;
    Words want{"solver.max_iterations=170"};
    want.insert(want.end(), c.evaluations.begin(), c.evaluations.end());
    CAPTURE(c.image_seconds);
    CAPTURE(c.images);
    CHECK(plan_of_training(config, {.validation = c.images}, {.step_seconds = 0.5, .image_seconds = c.image_seconds}, 100,
                           steps) == want);
  }
}

TEST_CASE("comparison: the pace of a probe, from the lines of its steps and the times of its files") {
  const tests::TemporaryFolder folder;
  SolverConfig solver;
  solver.batch_size = 4;
  CHECK(!pace_of_probe(folder / "", solver, 9));
  const auto write = [&](const char* name, const std::string& text) { std::ofstream(folder / name) << text; };
  std::string lines;
  for (int i = 1; i <= 8; ++i) lines += "{\"step\":" + std::to_string(i) + ",\"images_per_s\":" + (i <= 4 ? "1" : "8") + "}\n";
  write("metrics.jsonl", lines);
  CHECK(pace_of_probe(folder / "", solver, 9)->step_seconds == 0.5);  // the first ones warm up
  CHECK(pace_of_probe(folder / "", solver, 9)->image_seconds == 0);   // it was not evaluated
  write("results.csv", "step\n8\n");
  const auto done = std::filesystem::last_write_time(folder / "metrics.jsonl");
  std::filesystem::last_write_time(folder / "results.csv", done + std::chrono::seconds(6));
  CHECK(pace_of_probe(folder / "", solver, 9)->image_seconds == 2);
  CHECK(pace_of_probe(folder / "", solver, 1)->image_seconds == 6);
}

TEST_SUITE_END();
