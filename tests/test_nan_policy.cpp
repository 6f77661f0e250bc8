// What a run does with steps that are not finite: left out, or gone back from, to the bit the same when it is resumed (R27 to R30); and
// checkpoints that cannot be written.
#include <doctest/doctest.h>

#include <cerrno>
#include <cmath>

#include "data/atomic_file.h"
#include "data/image_io.h"
#include "kernels/unary.h"
#include "tests/paths.h"
#include "tests/same_bits.h"
#include "tests/train_fixture.h"
#include "train/nan_policy.h"

using namespace glia;
using tests::same_bits;
using tests::TemporaryFolder;
using tests::TinyNet;
using tests::TinyTraining;
namespace fs = std::filesystem;

namespace {

bool same_training(const Checkpoint& x, const Checkpoint& y) {
  return x.step == y.step && x.best == y.best && x.state.values() == y.state.values() && same_bits(x.weights, y.weights) &&
         same_bits(x.optimizer, y.optimizer) && same_bits(x.ema, y.ema);
}

bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

fs::path checkpoint_of(const TinyTraining& t, const std::string& name) {
  return t.folder / "checkpoints" / (name + ".safetensors");
}
Checkpoint last_of(const TinyTraining& t) { return read_checkpoint(checkpoint_of(t, "last")); }

// Image 7 holds a NaN: one of the three batches of each epoch does.
Example with_bad_image(int64_t i) {
  Example e = tests::tiny_example(i);
  if (i == 7) e.image.data<float>()[3] = NAN;
  return e;
}

// From the first-th to the last-th forward pass of this process, the network's output goes through `change`.
void change_outputs(TinyTraining& t, int64_t first, int64_t last, const std::function<Tensor(const Tensor&)>& change) {
  t.losses = [=, calls = int64_t(0)](TinyNet& net, const Batch& b) mutable -> NamedLosses {
    ++calls;
    Tensor z = net(b.tensors[0]);
    if (calls >= first && calls <= last) z = change(z);
    return {{"bce", apply(BceWithLogits{}, z, b.tensors[1], Tensor(), Tensor())}};
  };
}
Tensor log_of_negative(const Tensor& z) { return apply(Log{}, apply(Neg{}, apply(Square{}, z))); }
Tensor root_at_zero(const Tensor& z) {  // its value is finite, its derivative is not
  z.data<float>()[0] = 0;
  return apply(Sqrt{}, apply(Square{}, z));
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

int64_t lines_of(const fs::path& file) {
  const std::string text = read_file(file);
  return std::count(text.begin(), text.end(), '\n');
}

int64_t reports_of(const TinyTraining& t) {
  int64_t count = 0;
  for (const auto& entry : fs::directory_iterator(t.folder / "diverged")) count += entry.path().extension() == ".txt";
  return count;
}

}  // namespace

TEST_SUITE_BEGIN("train");

TEST_CASE("on_nan: stop, skip:N, rollback:N, and nothing else") {
  CHECK(parse_nan_policy("stop").kind == NanPolicy::Kind::stop);
  CHECK(parse_nan_policy("skip:3").kind == NanPolicy::Kind::skip);
  CHECK(parse_nan_policy("rollback:12").kind == NanPolicy::Kind::rollback);
  CHECK(parse_nan_policy("rollback:12").limit == 12);
  for (const char* text :
       {"", "skip", "skip:", "skip:0", "skip:-1", "skip:3x", "skip:99999999999999999999", "stop:1", "Skip:3", "retry:2"}) {
    CAPTURE(text);
    CHECK_THROWS_AS(parse_nan_policy(text), UsageError);
  }
  Config config;
  apply_setting(config, "run.on_nan=skip:x");
  CHECK_THROWS_WITH_AS(check_config(config), doctest::Contains("run.on_nan"), UsageError);
}

TEST_CASE("on_nan: a step that is left out changes the step's number alone, and the next one is its successor (R27)") {
  LoaderOptions options;
  options.batch_size = 4;
  options.workers = 0;
  options.prepare = tests::tiny_prepare;
  Loader loader(12, tests::tiny_example, options);
  TinyNet net;
  net.initialize(3);
  bool bad = false;
  std::vector<std::string> seen;
  const LossFunction losses = [&](const Batch& b) -> NamedLosses {
    Tensor z = net(b.tensors[0]);
    if (bad) z = log_of_negative(z);
    seen.push_back(b.examples[0].id);
    return {{"bce", apply(BceWithLogits{}, z, b.tensors[1], Tensor(), Tensor())}};
  };
  TrainerOptions o;
  o.ema = 0.5;
  o.accumulate = 2;
  Trainer trainer(net, losses, loader, o);
  for (int i = 0; i < 3; ++i) trainer.step();
  Checkpoint before, after;
  trainer.save(before);
  bad = true;
  CHECK_THROWS_AS(trainer.step(), DivergedError);
  trainer.skip();
  trainer.save(after);
  CHECK(after.step == 4);
  CHECK(same_bits(before.weights, after.weights));
  CHECK(same_bits(before.optimizer, after.optimizer));
  CHECK(same_bits(before.ema, after.ema));
  bad = false;
  seen.clear();
  CHECK(trainer.step().step == 5);
  loader.seek(8 / 3, 8 % 3);  // batches 8 and 9, of 3 to an epoch
  CHECK(seen[0] == loader.next()->examples[0].id);
  CHECK(seen[1] == loader.next()->examples[0].id);
}

TEST_CASE("on_nan: skip goes on over NaN in an image, in the loss or in a gradient, and resuming is exact (R10, R27)") {
  const TemporaryFolder folder;
  const auto set_up = [](TinyTraining& t) {
    t.load = with_bad_image;
    t.set("run.on_nan=skip:2");
    t.set("checkpoint.every=5");
  };
  TinyTraining whole(folder / "whole");
  set_up(whole);
  CHECK(whole.run().steps == 40);
  const int64_t left_out = reports_of(whole);
  CHECK(left_out >= 13);  // one in each epoch of three
  CHECK(lines_of(whole.folder / "metrics.jsonl") == 40 - left_out);
  CHECK(last_of(whole).optimizer.at("optimizer.steps").item() == double(40 - left_out));
  for (const auto& entry : fs::directory_iterator(whole.folder / "diverged")) {  // each report has its images (R28)
    if (entry.path().extension() != ".txt") continue;
    const fs::path picture = fs::path(entry.path()).replace_extension(".png");
    CHECK(contains(read_file(entry.path()), "in red: " + picture.string()));
    const Tensor pixels = read_image(picture).pixels;
    int64_t red = 0;
    for (int64_t i = 0; i < pixels.size(); i += 3) {
      const uint8_t* p = pixels.data<uint8_t>() + i;
      red += p[0] == 255 && p[1] == 0 && p[2] == 0;
    }
    CHECK(red == 480 * 480);  // of the one image whose noise, scaled by its pixels, is not finite anywhere
  }
  CHECK(contains(read_file(whole.folder / "train.log"), "image img7"));
  for (int64_t k = 2; k <= 10; ++k) {
    CAPTURE(k);
    const fs::path run = folder / fmt::format("run{}", k);
    TinyTraining part(run), rest(run);
    set_up(part);
    set_up(rest);
    part.stop_after = k;
    part.run();
    rest.resume = "auto";
    CHECK(rest.run().steps == 40);
    CHECK(same_training(last_of(whole), last_of(rest)));
  }

  for (const auto& [name, change] : {std::pair{"loss", &log_of_negative}, {"gradient", &root_at_zero}}) {
    CAPTURE(name);
    TinyTraining t(folder / name);
    change_outputs(t, 6, 7, change);  // the step's own passes, and the report's
    CHECK(t.run().steps == 40);
    CHECK(reports_of(t) == 1);
    CHECK(contains(read_file(t.folder / "train.log"), fmt::format("step 6: the {} is not finite", name)));
    CHECK(contains(read_file(t.folder / "train.log"), "the step is left out (1 in a row, at most 3)"));
  }
}

TEST_CASE("on_nan: after N steps in a row a run ends, names the last good checkpoint, and does so again when resumed (R29)") {
  const TemporaryFolder folder;
  TinyTraining t(folder / "run");
  t.set("checkpoint.every=4");
  t.set("checkpoint.keep=9");
  change_outputs(t, 6, 1000, log_of_negative);
  const std::string message = message_of<DivergedError>(t);
  CAPTURE(message);
  CHECK(contains(message, "step 9: the loss is not finite"));
  CHECK(contains(message, "4 such steps in a row, run.on_nan = \"skip:3\""));
  CHECK(contains(message, "last good checkpoint: " + checkpoint_of(t, "last").string()));
  CHECK(reports_of(t) == 4);
  const Checkpoint last = last_of(t), good = read_checkpoint(checkpoint_of(t, "step-000004"));
  CHECK(last.step == 8);  // within the bad steps: its weights are those of step 5
  CHECK(last.optimizer.at("optimizer.steps").item() == 5);
  CHECK_FALSE(same_bits(last.weights, good.weights));
  TinyTraining again(folder / "run");
  again.resume = "auto";
  again.set("checkpoint.every=4");
  change_outputs(again, 1, 1000, log_of_negative);
  CHECK(contains(message_of<DivergedError>(again), "step 9: "));

  TinyTraining weights(folder / "weights");
  weights.after_initialisation = [](TinyNet& net) { net.parameters()[0].tensor->data<float>()[1] = NAN; };
  const std::string text = message_of<DivergedError>(weights);
  CHECK(contains(text, "step 4: "));
  CHECK(contains(text, "parameter first.weight, before the step"));
  CHECK(contains(text, "last good checkpoint: none yet"));
  CHECK_FALSE(fs::exists(weights.folder / "diverged" / "before.safetensors"));  // nothing of it is kept as a checkpoint (R30)
  CHECK_FALSE(fs::exists(checkpoint_of(weights, "last")));
}

TEST_CASE("on_nan: rollback goes on with the weights of the newest checkpoint that verifies, N times (R29)") {
  const TemporaryFolder folder;
  TinyTraining t(folder / "run");
  t.set("run.on_nan=rollback:2");
  t.set("solver.max_iterations=14");
  t.set("eval.every=1000");
  change_outputs(t, 14, 15, log_of_negative);
  CHECK(t.run().steps == 14);
  const Checkpoint end = last_of(t), good = read_checkpoint(checkpoint_of(t, "step-000010"));
  CHECK(end.step == 14);
  CHECK(end.state.integer("on_nan.rollbacks", 0) == 1);
  CHECK(same_bits(end.weights, good.weights));
  CHECK(same_bits(end.optimizer, good.optimizer));
  CHECK(same_bits(end.ema, good.ema));
  CHECK(contains(read_file(t.folder / "train.log"), "step-000010.safetensors again (1 of at most 2 times)"));

  TinyTraining broken(folder / "broken");  // the newest is cut short: the one before it counts
  broken.set("run.on_nan=rollback:1");
  broken.set("checkpoint.every=4");
  broken.set("checkpoint.keep=9");
  broken.set("solver.max_iterations=10");
  broken.set("eval.every=1000");
  change_outputs(broken, 10, 11, [&](const Tensor& z) {
    fs::resize_file(checkpoint_of(broken, "step-000008"), 100);
    return log_of_negative(z);
  });
  CHECK(broken.run().steps == 10);
  CHECK(same_bits(last_of(broken).weights, read_checkpoint(checkpoint_of(broken, "step-000004")).weights));

  TinyTraining often(folder / "often");
  often.set("run.on_nan=rollback:2");
  change_outputs(often, 14, 1000, log_of_negative);
  const std::string message = message_of<DivergedError>(often);
  CHECK(contains(message, "step 16: "));
  CHECK(contains(message, "went back 2 times already"));
  TinyTraining early(folder / "early");
  early.set("run.on_nan=rollback:2");
  change_outputs(early, 3, 1000, log_of_negative);
  CHECK(contains(message_of<DivergedError>(early), "there is no checkpoint yet to go back to"));
}

TEST_CASE("on_nan: the report tells what is known, and what it kept runs the step again (R28)") {
  const TemporaryFolder folder;
  TinyTraining t(folder / "run");
  t.set("run.on_nan=stop");
  t.set("solver.max_iterations=70");
  const auto losses = t.losses;
  t.losses = [=, calls = 0](TinyNet& net, const Batch& b) mutable {
    return ++calls < 61 ? losses(net, b) : NamedLosses{{"bce", log_of_negative(losses(net, b)[0].second)}};
  };
  const std::string message = message_of<DivergedError>(t);
  const std::string report = read_file(t.folder / "diverged" / "step-000061.txt");
  CAPTURE(report);
  CHECK(contains(message, "report: " + (t.folder / "diverged" / "step-000061.txt").string()));
  CHECK(contains(report, "the output of log (forward)"));
  CHECK(contains(report, "Largest absolute values of the last 5 operations before it\n"));
  CHECK(contains(report, "conv2d with second.weight, second.bias (forward): "));
  CHECK(contains(report, "Gradient norms of the 50 steps before"));
  CHECK(contains(report, "seed 5, epoch 20, index "));
  CHECK(contains(report, "Random numbers of the network (dropout, sampling): seed 5, step 60"));
  const fs::path before = t.folder / "diverged" / "before.safetensors";
  CHECK(contains(report, before.string()));
  CHECK(read_checkpoint(before).step == 60);
  TinyTraining again(folder / "again");
  again.set("run.on_nan=stop");
  again.set("solver.max_iterations=61");
  again.resume = before.string();
  again.losses = [=](TinyNet& net, const Batch& b) { return NamedLosses{{"bce", log_of_negative(losses(net, b)[0].second)}}; };
  const std::string repeated = message_of<DivergedError>(again);
  for (const char* part : {"step 61: ", "  loss terms: ", "  images: "}) {
    const size_t i = message.find(part), j = repeated.find(part);
    REQUIRE(i != std::string::npos);
    REQUIRE(j != std::string::npos);
    CHECK(message.substr(i, message.find('\n', i) - i) == repeated.substr(j, repeated.find('\n', j) - j));
  }
  again.resume = "";
  again.overwrite = true;
  again.set("solver.max_iterations=2");
  again.losses = losses;
  again.run();
  CHECK_FALSE(fs::exists(again.folder / "diverged"));
}

TEST_CASE("on_nan: a device that is read now and then leaves out what one that is waited for does") {
  const TemporaryFolder folder;
  const auto run = [&](const std::string& name, int64_t log_every, bool model_looks) {
    TinyTraining t(folder / name);
    t.device = parse_device("emulated");
    t.load = with_bad_image;
    t.set("solver.max_iterations=20");
    t.set("eval.every=1000");
    t.set("checkpoint.every=1000");
    t.set(fmt::format("run.log_every={}", log_every));
    t.losses = [=, device = t.device](TinyNet& net, const Batch& b) -> NamedLosses {
      const Tensor z = net(b.tensors[0].to(device));
      const Tensor loss = apply(BceWithLogits{}, z, b.tensors[1].to(device), Tensor(), Tensor());
      // as Mask R-CNN's proposals do, in the middle of the forward pass
      if (model_looks && std::isnan(loss.item())) throw DivergedError("the proposals have infinities or NaN");
      return {{"bce", loss}};
    };
    CHECK(t.run().steps == 20);
    CHECK(reports_of(t) >= 6);
    CHECK(lines_of(t.folder / "metrics.jsonl") == 20 - reports_of(t));
    return last_of(t);
  };
  const Checkpoint waited = run("waited", 1, false);
  CHECK(waited.optimizer.at("optimizer.steps").item() <= 14);
  CHECK(same_training(waited, run("late", 20, false)));
  CHECK(same_training(waited, run("looks", 20, true)));
  CHECK(same_training(waited, run("looks_waited", 1, true)));
}

TEST_SUITE_END();
