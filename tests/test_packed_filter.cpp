// Filters that inference prepares once (run.pack_weights): the same bits as without, and never those of earlier weights.
#include <doctest/doctest.h>

#include "autograd/apply.h"
#include "autograd/operators.h"
#include "kernels/conv.h"
#include "kernels/packed_filter.h"
#include "models/unet.h"
#include "nn/optimizer.h"
#include "tensor/memory.h"
#include "tensor/parallel.h"
#include "tensor/random.h"
#include "tests/same_bits.h"

namespace glia::tests {
namespace {

Tensor noise(const Shape& shape) {
  Tensor t(shape);
  for (int64_t i = 0; i < t.size(); ++i) t.data<float>()[i] = static_cast<float>(Philox(7, 1).normal(uint64_t(i)));
  return t;
}

// What the network gives without anything kept.
Tensor plain(Unet& net, const Tensor& x) {
  const NoGrad no_grad;
  set_pack_weights(false);
  Tensor y = net(x);
  set_pack_weights(true);
  return y;
}

Tensor packed(Unet& net, const Tensor& x) {
  const NoGrad no_grad;
  return net(x);
}

}  // namespace

TEST_SUITE_BEGIN("models");

TEST_CASE("packed filters: the same bits, for images of any size, until the weights change") {
  for (const char* name : {"unet_keras", "unet_milesial"}) {
    INFO(name);
    const UnetOptions options{.name = name, .base_channels = 16, .depth = 2};
    const auto net = make_unet(options), other = make_unet(options);
    net->initialize(1);
    other->initialize(2);
    net->eval();
    const Tensor x = noise({1, 64, 64, 1}), larger = noise({2, 96, 64, 1});
    const Tensor largest = noise({1, 256, 192, 1});  // its convolutions need nothing that is kept
    const Tensor first = plain(*net, x);
    const size_t before = memory_stats().live_bytes;
    CHECK(same_bits(packed(*net, x), first));
    CHECK(memory_stats().live_bytes > before);  // something is kept
    CHECK(same_bits(packed(*net, x), first));
    const std::vector<Tensor> sizes{larger, largest, x};
    std::vector<Tensor> wanted;
    for (const Tensor& image : sizes) wanted.push_back(plain(*net, image));  // which drops what is kept
    CHECK(same_bits(packed(*net, x), first));
    for (size_t i = 0; i < sizes.size(); ++i) CHECK(same_bits(packed(*net, sizes[i]), wanted[i]));

    net->load_state_dict(other->state_dict(), "other");
    const Tensor loaded = packed(*net, x);
    CHECK_FALSE(same_bits(loaded, first));
    CHECK(same_bits(loaded, plain(*net, x)));
  }
}

TEST_CASE("packed filters: matrix products read the panels that were kept, with 1, 2 and 8 threads") {
  const NoGrad no_grad;
  struct Case {
    Shape x, w;
    int64_t stride, groups;
  };
  const int before = num_threads();
  for (const Case& c : {Case{{1, 9, 11, 400}, {512, 1, 1, 400}, 1, 1},
                        {{2, 12, 10, 48}, {150, 3, 3, 48}, 2, 1},
                        {{1, 20, 20, 64}, {3, 1, 1, 64}, 1, 1},
                        {{1, 12, 30, 24}, {36, 3, 3, 8}, 1, 3}}) {
    const Tensor x = noise(c.x), w = noise(c.w);
    Conv2d op{.stride = {c.stride, c.stride}, .groups = c.groups};
    PackedFilter kept;
    const size_t live = memory_stats().live_bytes;
    Tensor want;  // of one thread
    for (const int threads : {1, 2, 8}) {
      set_num_threads(threads);
      INFO(c.w, ", ", threads, " threads");
      op.packed = nullptr;
      const Tensor unkept = apply(op, x, w, Tensor(), Tensor(), Tensor());
      if (!want) want = unkept;
      CHECK(same_bits(unkept, want));
      op.packed = &kept;
      CHECK(same_bits(apply(op, x, w, Tensor(), Tensor(), Tensor()), want));
    }
    CHECK(memory_stats().live_bytes > live);
  }
  set_num_threads(before);
}

TEST_CASE("packed filters: a step of training, an average put in place and a second network don't meet old ones") {
  const UnetOptions options{.base_channels = 16, .depth = 2};
  const auto net = make_unet(options);
  net->initialize(1);
  Optimizer optimizer({.kind = OptimizerKind::sgd}, net->parameters());
  Ema average(optimizer, 0.5);
  const Tensor x = noise({1, 64, 64, 1});
  net->eval();
  const Tensor first = packed(*net, x);
  net->train();
  net->set_random(1, 1);
  const size_t kept = memory_stats().live_bytes;
  optimizer.zero_grad();
  backward(apply(Sum{}, apply(Square{}, (*net)(x))));
  CHECK(memory_stats().live_bytes < kept);  // training keeps nothing
  optimizer.step(1e-6);
  net->eval();
  const Tensor stepped = packed(*net, x);
  CHECK_FALSE(same_bits(stepped, first));
  average.swap();
  CHECK(same_bits(packed(*net, x), first));
  average.swap();
  CHECK(same_bits(packed(*net, x), stepped));
  optimizer.step(1e-6);
  const Tensor again = packed(*net, x);
  CHECK_FALSE(same_bits(again, stepped));
  CHECK(same_bits(again, plain(*net, x)));  // which drops what is kept
}

TEST_SUITE_END();

}  // namespace glia::tests
