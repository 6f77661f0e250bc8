// What a step's layers cost, against numbers worked out by hand.
#include <doctest/doctest.h>

#include "autograd/operators.h"
#include "autograd/tape.h"
#include "kernels/reduce.h"
#include "nn/layers.h"
#include "tensor/memory.h"
#include "train/step_profile.h"
#include "train/trainer.h"

using namespace glia;

namespace {

class TwoLayers : public Module {
 public:
  TwoLayers() {
    add("first", first);
    add("second", second);
  }
  nn::Conv2d first{{.in = 3, .out = 8, .kernel = 3, .pad = nn::same_pad(3)}}, second{{.in = 8, .out = 4, .kernel = 1}};
};

}  // namespace

TEST_SUITE_BEGIN("train");

TEST_CASE("step profile: operations, calls, bytes and memory of each layer") {
  TwoLayers net;
  net.initialize(1);
  for (const NamedTensor& p : net.parameters()) require_grad(*p.tensor);
  const Tensor x = Tensor::zeros({2, 10, 12, 3}, DType::float32);
  constexpr double pixels = 2 * 10 * 12, first = 2 * pixels * 8 * 27, second = 2 * pixels * 4 * 8;
  StepProfile profile(net, Device{});
  for (int step = 0; step < 2; ++step) {
    profile.begin_step();
    const Tensor y = net.second(net.first(x));
    const Tensor z = net.second(net.first(x));
    backward(apply(Sum{}, y + z));
    profile.end_step("optimizer");
  }
  const auto rows = profile.rows();
  REQUIRE(rows.size() >= 4);
  CHECK(rows[0].layer == "first");
  CHECK(rows[0].op == "conv2d");
  CHECK(rows[0].shape == Shape{2, 10, 12, 8});
  CHECK(rows[0].calls == 2);
  CHECK(rows[0].gflop == doctest::Approx(2 * 2 * first / 1e9));  // forward and the weights' gradient: x wants none
  CHECK(rows[1].layer == "second");
  CHECK(rows[1].gflop == doctest::Approx(2 * 3 * second / 1e9));  // forward, both gradients
  // x, weights, bias, y of each forward pass; x's and the parameters' shapes and what was wanted of their gradients in each backward.
  CHECK(rows[1].megabytes == doctest::Approx(2 * 4 * ((pixels * 8 + 32 + 4 + pixels * 4) + 2 * (pixels * 8 + 32 + 4)) / 1e6));
  CHECK(rows.back().layer == "optimizer");
  size_t live = 0;
  for (const auto& r : rows) {
    live = std::max(live, r.live_bytes);
    CHECK(r.forward + r.backward > 0);
  }
  CHECK(live >= size_t(pixels * (3 + 8 + 4) * 4));
  const std::string text = profile_text(rows, 100);
  CHECK(text.find("most live memory") != std::string::npos);
  CHECK(text.find("by kind:") != std::string::npos);
}

TEST_CASE("step profile: ops without parameters that take no time share a line") {
  const auto row = [](const char* layer, const char* op, double forward, size_t live_bytes = 0) {
    StepProfile::Row r;
    r.layer = layer, r.op = op, r.forward = forward, r.live_bytes = live_bytes;
    return r;
  };
  const std::vector<StepProfile::Row> rows{row("first", "conv2d", 0.9), row("small", "conv2d", 1e-5), row("", "topk", 1e-5),
                                           row("", "gather", 2e-5, 5 << 20), row("", "relu", 0.1)};
  const std::string text = profile_text(rows, 100);
  CHECK(text.find("small") != std::string::npos);
  CHECK(text.find("relu") < text.find("2 more kinds and shapes of ops, each below 0.05 % of the time: 0.03 ms"));
  CHECK(text.find("topk") > text.find("by kind:"));
  CHECK(text.find("most live memory: 5.2 MB, in gather") != std::string::npos);
}

TEST_SUITE_END();
