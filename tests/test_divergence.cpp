// Steps that are not finite: found before the update, explained, and without a trace in weights and statistics (R27, R28).
#include <doctest/doctest.h>

#include <cmath>

#include "autograd/operators.h"
#include "data/atomic_file.h"
#include "kernels/unary.h"
#include "tests/paths.h"
#include "tests/train_files.h"
#include "train/divergence.h"

using namespace glia;
using namespace glia::tests;
namespace fs = std::filesystem;

TEST_SUITE_BEGIN("train");

TEST_CASE("divergence: a picture of a batch's image has what is not finite in red, all else as it is (R28)") {
  Tensor images({2, 3, 4, 2});
  for (int64_t i = 0; i < images.size(); ++i) images.data<float>()[i] = static_cast<float>(i % 24);
  float* second = images.data<float>() + 24;
  second[2 * 5] = NAN;            // row 1, column 1
  second[2 * 11 + 1] = INFINITY;  // row 2, column 3, its other channel
  const Tensor first = picture_with_bad_pixels(images, 0), picture = picture_with_bad_pixels(images, 1);
  REQUIRE(picture.shape() == Shape({3, 4, 3}));
  for (int64_t i = 0; i < 12; ++i) {
    const uint8_t* p = picture.data<uint8_t>() + 3 * i;
    const bool red = p[0] == 255 && p[1] == 0 && p[2] == 0;
    CHECK(red == (i == 5 || i == 11));
    const uint8_t* f = first.data<uint8_t>() + 3 * i;
    CHECK((f[0] == f[1] && f[1] == f[2]));
  }
  CHECK(std::isnan(second[10]));  // the batch itself is as it was
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
  CHECK(std::filesystem::file_size(folder / "weight" / "diverged" / "step-000001.png") > 100);

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

TEST_CASE("run: of twelve injected causes each is named (R28)") {
  using Inject = std::function<void(TinyTraining&)>;
  const auto outputs = [](const std::function<Tensor(const Tensor&)>& change) -> Inject {
    return [change](TinyTraining& t) {
      t.losses = [change](TinyNet& net, const Batch& b) -> NamedLosses {
        return {{"bce", apply(BceWithLogits{}, change(net(b.tensors[0])), b.tensors[1], Tensor(), Tensor())}};
      };
    };
  };
  const auto pixel = [](float value) -> Inject {
    return [value](TinyTraining& t) {
      t.load = [value](int64_t i) {
        Example e = tests::tiny_example(i);
        if (i == 7) e.image.data<float>()[3] = value;
        return e;
      };
    };
  };
  const auto parameter = [](const std::string& name, double value) -> Inject {
    return [name, value](TinyTraining& t) {
      t.after_initialisation = [name, value](TinyNet& net) {
        for (const NamedTensor& p : net.parameters())
          if (p.name == name) p.tensor->fill(value);
      };
    };
  };
  const auto square = [](const Tensor& z) { return apply(Square{}, z); };
  const Inject target = [](TinyTraining& t) {
    t.losses = [](TinyNet& net, const Batch& b) -> NamedLosses {
      b.tensors[1].data<float>()[0] = NAN;
      return {{"bce", apply(BceWithLogits{}, net(b.tensors[0]), b.tensors[1], Tensor(), Tensor())}};
    };
  };
  const Inject term = [](TinyTraining& t) {
    const auto losses = t.losses;
    t.losses = [losses](TinyNet& net, const Batch& b) {
      NamedLosses all = losses(net, b);
      all.emplace_back("area", Tensor::full({}, NAN));
      return all;
    };
  };
  const Inject rate = [](TinyTraining& t) {
    t.set("solver.optimizer=sgd");
    t.set("solver.lr=1e5");
    t.losses = [](TinyNet& net, const Batch& b) -> NamedLosses {
      return {{"mse", apply(MseLoss{}, net(b.tensors[0]), b.tensors[1])}};
    };
  };
  struct Injected {
    const char* name;
    Inject inject;
    const char *tensor, *cause;
  };
  const char *no_value = "an operation that has no value where it was used", *too_high = "lower solver.lr";
  const Injected all[] = {
      {"pixel", pixel(NAN), "image img7 (tensor 0", "img7 (tensor 0 of the batch) holds numbers that are not finite"},
      {"bright pixel", pixel(INFINITY), "image img7 (tensor 0", "img7 (tensor 0 of the batch) holds numbers"},
      {"target", target, "(tensor 1 of the batch), before the step", "(tensor 1 of the batch) holds numbers"},
      {"weight", parameter("first.weight", INFINITY), "parameter first.weight", "first.weight was not finite before the step"},
      {"norm", parameter("norm.weight", NAN), "parameter norm.weight", "norm.weight was not finite before the step"},
      {"overflow", parameter("second.weight", 3e38), "the output of conv2d with second.weight", too_high},
      {"logarithm", outputs([&](const Tensor& z) { return apply(Log{}, apply(Neg{}, square(z))); }), "the output of log",
       no_value},
      {"root", outputs([&](const Tensor& z) { return apply(Sqrt{}, apply(Neg{}, square(z))); }), "the output of sqrt", no_value},
      {"division", outputs([](const Tensor& z) { return z / Tensor::zeros(z.shape()); }), "the output of div", no_value},
      {"derivative", outputs([&](const Tensor& z) {
         z.data<float>()[0] = 0;
         return apply(Sqrt{}, square(z));
       }),
       "a gradient from sqrt", "an operation whose derivative is infinite where it was used"},
      {"loss term", term, "loss area", too_high},
      {"learning rate", rate, "", too_high},
  };
  const TemporaryFolder folder;
  for (const Injected& i : all) {
    CAPTURE(i.name);
    TinyTraining t(folder / i.name);
    t.set("run.on_nan=stop");
    i.inject(t);
    std::string message;
    try {
      t.run();
    } catch (const DivergedError& e) {
      message = e.what();
    }
    CAPTURE(message);
    const size_t causes = message.find("likely cause: ");
    REQUIRE(causes != std::string::npos);
    CHECK(contains(message.substr(0, causes), i.tensor));
    CHECK(contains(message.substr(causes), i.cause));
  }
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

TEST_SUITE_END();
