// UNets of any depth, and UNet++ pruned.
#include <doctest/doctest.h>

#include <cstring>

#include "autograd/tape.h"
#include "models/unet.h"
#include "tests/small_net.h"

using namespace glia;
using namespace glia::tests;

TEST_SUITE_BEGIN("models");

TEST_CASE("UNets of any depth keep the image's size, or lose the margin") {
  const NoGrad no_grad;
  for (const std::string& name : unet_names()) {
    for (const int64_t depth : {1, 2, 3}) {
      INFO(name, " depth ", depth);
      UnetOptions options{.name = name, .in_channels = 2, .out_channels = 3, .base_channels = 4, .depth = depth};
      const auto net = make_unet(options);
      net->initialize(1);
      // unet_original: s - 4 even at every level
      const int64_t side = name == "unet_original" ? 4 * ((int64_t{1} << depth) - 1) + 20 * (int64_t{1} << depth) : 32;
      const Tensor y = (*net)(noise({1, side, side, 2}, 1));
      CHECK(y.shape() == Shape{1, side - 2 * net->margin(), side - 2 * net->margin(), 3});
    }
  }
  CHECK(make_unet({.name = "unet_original", .base_channels = 2})->margin() == 92);
  const auto odd = make_unet({.name = "unet_milesial", .base_channels = 4, .depth = 2, .bilinear = true});
  CHECK((*odd)(noise({2, 13, 18, 1}, 1)).shape() == Shape{2, 13, 18, 1});
  const auto strict = make_unet({.name = "unet_keras", .base_channels = 4, .depth = 2});
  CHECK_THROWS_AS((*strict)(noise({1, 13, 16, 1}, 1)), UsageError);
  CHECK_THROWS_AS(make_unet({.name = "unet"}), UsageError);
  CHECK_THROWS_AS(make_unet({.depth = 9}), UsageError);
}

TEST_CASE("UNet++: pruned to a column it gives that head's logits to the bit, and does without the deeper levels") {
  const NoGrad no_grad;
  struct Convolutions : OpObserver {
    int count = 0;
    void after_forward(const char* name, std::span<const Tensor>, const Tensor&) override {
      count += std::string_view(name).starts_with("conv");
    }
    void after_backward(const Node&, std::span<const Tensor>) override {}
  };
  const Tensor x = noise({1, 16, 24, 1}, 1);
  for (const bool bilinear : {false, true}) {
    UnetOptions options{.name = "unet_plus_plus", .out_channels = 2, .base_channels = 4, .depth = 3, .bilinear = bilinear};
    const auto whole = make_unet(options);
    whole->initialize(1);
    whole->eval();
    const std::vector<Tensor> all = whole->heads(x);
    REQUIRE(all.size() == 3);
    for (int64_t d = 1; d <= 3; ++d) {
      INFO("pruned to ", d, std::string(bilinear ? ", bilinear" : ", transposed"));
      options.prune = d;
      const auto pruned = make_unet(options);
      pruned->load_state_dict(whole->state_dict(), "whole");
      pruned->eval();
      Convolutions convolutions;
      const std::vector<Tensor> one = pruned->heads(x);
      REQUIRE(one.size() == 1);
      CHECK(std::memcmp(one[0].raw(), all[size_t(d - 1)].raw(), one[0].bytes()) == 0);
      const int64_t nodes = (d + 1) * (d + 2) / 2, ups = bilinear ? 0 : d * (d + 1) / 2;
      CHECK(convolutions.count == 2 * nodes + ups + 1);
      pruned->train();
      CHECK(pruned->heads(x).size() == 3);  // a training trains all of it
    }
  }
  CHECK_THROWS_WITH_AS(make_unet({.name = "unet_plus_plus", .deep_supervision = false, .prune = 2}),
                       doctest::Contains("model.deep_supervision"), UsageError);
  CHECK_THROWS_AS(make_unet({.name = "unet_plus_plus", .depth = 3, .prune = 4}), UsageError);
  const auto single = make_unet({.name = "unet_plus_plus", .base_channels = 4, .depth = 3, .deep_supervision = false});
  CHECK(single->heads(x).size() == 1);
  CHECK_THROWS_AS(single->heads(noise({1, 12, 16, 1}, 1)), UsageError);
}

TEST_SUITE_END();
