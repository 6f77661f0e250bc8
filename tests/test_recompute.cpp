// Blocks that are computed again for backward (run.recompute): the same bits with less memory.
#include <doctest/doctest.h>

#include "autograd/operators.h"
#include "models/resnet.h"
#include "models/unet.h"
#include "tensor/memory.h"
#include "tensor/random.h"
#include "tests/same_bits.h"

namespace glia::tests {
namespace {

struct Pass {
  std::vector<Tensor> gradients;  // of the parameters, absent where frozen
  size_t peak = 0;
};

// Forward, the sum of squares of what it gives, backward.
template <class Forward>
Pass pass(Module& net, const Forward& forward, bool again) {
  set_recomputing(again);
  for (const NamedTensor& t : net.parameters()) zero_grad(*t.tensor);
  reset_peak_memory();
  Pass result;
  backward(apply(Sum{}, apply(Square{}, forward())));
  result.peak = memory_stats().peak_bytes;
  set_recomputing(false);
  for (const NamedTensor& t : net.parameters()) result.gradients.push_back(grad_of(*t.tensor));
  return result;
}

void check_equal(const Pass& a, const Pass& b) {
  REQUIRE(a.gradients.size() == b.gradients.size());
  for (size_t i = 0; i < a.gradients.size(); ++i) {
    CHECK(same_bits(a.gradients[i], b.gradients[i]));
  }
}

Tensor noise(const Shape& shape) {
  Tensor t(shape);
  for (int64_t i = 0; i < t.size(); ++i) t.data<float>()[i] = static_cast<float>(Philox(7, 1).normal(uint64_t(i)));
  return t;
}

}  // namespace

TEST_SUITE_BEGIN("models");

TEST_CASE("recomputed blocks of a UNet: the same gradients, dropout included, in less memory") {
  const auto net = make_unet({.base_channels = 8, .depth = 3});
  net->initialize(1);
  net->set_random(3, 5);
  const Tensor x = noise({2, 160, 160, 1});  // the threads' scratch is small beside it
  const auto forward = [&] { return (*net)(x); };
  const Pass kept = pass(*net, forward, false), again = pass(*net, forward, true);
  check_equal(kept, again);
  CHECK(double(again.peak) < 0.9 * double(kept.peak));
}

TEST_CASE("recomputed blocks of a ResNet: the same gradients, none for frozen stages; counting norms see a batch once") {
  for (const nn::NormKind norm : {nn::NormKind::frozen_bn, nn::NormKind::bn}) {
    ResnetOptions options{.stem_channels = 8, .res2_channels = 32, .width_per_group = 32};
    options.norm = norm;
    Resnet net(options), counted(options);
    net.initialize(1);
    counted.load_state_dict(net.state_dict(), "net");
    const Tensor x = noise({1, 64, 64, 3});
    const Pass kept = pass(
                   net, [&] { return net(x)[3]; }, false),
               again = pass(
                   counted, [&] { return counted(x)[3]; }, true);
    check_equal(kept, again);
    CHECK(same_bits(net.state_dict(), counted.state_dict()));
  }
}

TEST_SUITE_END();

}  // namespace glia::tests
