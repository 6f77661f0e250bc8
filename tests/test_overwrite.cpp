// Gradients that convolutions write over their image, where that is a ReLU's output which nobody else will read.
#include <doctest/doctest.h>

#include <functional>

#include "autograd/operators.h"
#include "kernels/concat_conv.h"
#include "tensor/memory.h"
#include "tensor/random.h"
#include "tests/same_bits.h"

namespace glia::tests {
namespace {

constexpr std::array<int64_t, 4> same{1, 1, 1, 1};
const Conv2d with_relu{.pad = same, .activation = Activation::relu}, plain{.pad = same};

Tensor noise(const Shape& shape, uint64_t seed) {
  Tensor t(shape);
  for (int64_t i = 0; i < t.size(); ++i) t.data<float>()[i] = static_cast<float>(Philox(seed, 1).normal(uint64_t(i)));
  return t;
}

struct Weights {
  Tensor image = noise({2, 48, 48, 16}, 1), first = noise({32, 3, 3, 16}, 2), second = noise({32, 3, 3, 32}, 3),
         joined = noise({32, 3, 3, 64}, 4), last = noise({2, 3, 3, 32}, 5);
  std::array<Tensor*, 5> all{&image, &first, &second, &joined, &last};
  Weights() {
    for (Tensor* t : all) require_grad(*t);
  }
};

// The gradients of all weights, and the memory that backward took at most. What `held` has lives until backward is over, and
// nothing is written over it.
struct Result {
  std::vector<Tensor> gradients;
  size_t peak = 0;
};
using Network = std::function<Tensor(const Weights&, std::vector<Tensor>& held)>;
Result run(const Network& network, bool hold) {
  const Weights weights;
  std::vector<Tensor> held, before;
  const Tensor y = apply(Sum{}, apply(Square{}, network(weights, held)));
  if (!hold) held.clear();
  for (const Tensor& t : held) before.push_back(t.clone());
  reset_peak_memory();
  backward(y);
  for (size_t i = 0; i < held.size(); ++i) CHECK(same_bits(held[i], before[i]));
  Result result;
  result.peak = static_cast<size_t>(memory_stats().peak_bytes);
  for (const Tensor* t : weights.all) result.gradients.push_back(grad_of(*t));
  return result;
}

Tensor conv(const Conv2d& op, const Tensor& x, const Tensor& w) { return apply(op, x, w, Tensor(), Tensor(), Tensor()); }

Tensor keep(std::vector<Tensor>& held, Tensor t) {
  held.push_back(t.detach());
  return t;
}

void check_equal(const Result& a, const Result& b) {
  for (size_t i = 0; i < a.gradients.size(); ++i) {
    INFO("gradient ", i);
    REQUIRE(bool(a.gradients[i]) == bool(b.gradients[i]));
    if (a.gradients[i]) CHECK(same_bits(a.gradients[i], b.gradients[i]));
  }
}

}  // namespace

TEST_SUITE_BEGIN("autograd");

TEST_CASE("a gradient that a convolution writes over its image has the bits of one in memory of its own, and saves that") {
  const Weights w;
  const Tensor image({2, 48, 48, 32});
  REQUIRE(plain.overwrites(image, w.second, Tensor(), Tensor(), Tensor(), image));
  REQUIRE(plain.overwrites(image, w.last, Tensor(), Tensor(), Tensor(), Tensor({2, 48, 48, 2})));
  const Network chain = [](const Weights& weights, std::vector<Tensor>& held) {
    const Tensor a = keep(held, conv(with_relu, weights.image, weights.first));
    const Tensor b = keep(held, conv(with_relu, a, weights.second));
    return conv(plain, b, weights.last);
  };
  const Result apart = run(chain, true), over = run(chain, false);
  check_equal(apart, over);
  CHECK(over.peak + size_t(image.bytes()) <= apart.peak);
}

TEST_CASE("of an image in two parts each gradient is written over its part, or one that another op still adds to is not") {
  const Weights w;
  const Tensor image({2, 48, 48, 32});
  REQUIRE(ConcatConv2d{.conv = plain}.overwrites(image, image, w.joined, Tensor(), image));
  for (const int skip : {0, 1, 2, 3}) {
    const Network network = [skip](const Weights& weights, std::vector<Tensor>& held) {
      const Tensor a = keep(held, conv(with_relu, weights.image, weights.first));
      const Tensor b = keep(held, conv(with_relu, a, weights.second));
      const Tensor y = skip == 2 ? apply(ConcatConv2d{.conv = with_relu}, b, a, weights.joined, Tensor())
                                 : apply(ConcatConv2d{.conv = with_relu}, a, b, weights.joined, Tensor());
      const Tensor z = conv(plain, y, weights.last);
      if (skip == 0 || skip == 2) return z;
      const Tensor other = conv(plain, keep(held, b + b), weights.last);  // Add saves nothing, but has to be waited for
      return skip == 1 ? z + other : other + z;
    };
    CAPTURE(skip);
    check_equal(run(network, true), run(network, false));
  }
}

TEST_CASE("a graph that ends in a ReLU, or branches at one, masks each gradient once") {
  const Network ends = [](const Weights& weights, std::vector<Tensor>& held) {
    return conv(with_relu, keep(held, conv(with_relu, weights.image, weights.first)), weights.second);
  };
  check_equal(run(ends, true), run(ends, false));
  const Network branches = [](const Weights& weights, std::vector<Tensor>& held) {
    const Tensor a = keep(held, conv(with_relu, weights.image, weights.first));
    return conv(plain, a, weights.last) + conv(plain, keep(held, conv(with_relu, a, weights.second)), weights.last);
  };
  check_equal(run(branches, true), run(branches, false));
}

TEST_SUITE_END();

}  // namespace glia::tests
