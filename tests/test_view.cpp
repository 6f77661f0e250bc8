// Differentiable views, and what the ops of kernels/{reduce,shape,index,sort,loss}.h refuse.
#include <doctest/doctest.h>

#include <cmath>
#include <limits>

#include "autograd/apply.h"
#include "autograd/view.h"
#include "kernels/index.h"
#include "kernels/loss.h"
#include "kernels/loss_region.h"
#include "kernels/reduce.h"
#include "kernels/shape.h"
#include "kernels/sort.h"
#include "kernels/unary.h"

using namespace glia;

namespace {

template <class T>
std::vector<T> list(const Tensor& t) {
  return {t.values<T>().begin(), t.values<T>().end()};
}

}  // namespace

TEST_SUITE_BEGIN("autograd");

TEST_CASE("rows and reshape share data and send gradients back to their place") {
  Tensor x = Tensor::from<float>({4, 2}, {1, 2, 3, 4, 5, 6, 7, 8});
  require_grad(x);
  const Tensor middle = rows(x, 1, 3);
  CHECK(middle.shares_data_with(x));
  CHECK(list<float>(middle) == std::vector<float>{3, 4, 5, 6});
  const Tensor flat = reshape(middle, {-1});
  CHECK(flat.shape() == Shape{4});
  backward(apply(Square{}, flat), Tensor::full({4}, 1));
  CHECK(list<float>(grad_of(x)) == std::vector<float>{0, 0, 6, 8, 10, 12, 0, 0});
  CHECK_THROWS_WITH(reshape(x, {3, -1}), "reshape: 8 elements into rows of 3");
  CHECK_THROWS_WITH(reshape(x, {-1, -1}), "reshape: dimension 1 is -1, want one -1 at most");
}

TEST_SUITE_END();

TEST_SUITE_BEGIN("ops");

TEST_CASE("an index out of range is an error that names it") {
  const Tensor x = Tensor::zeros({3, 2});
  const Tensor index = Tensor::from<int64_t>({2}, {1, 3});
  CHECK_THROWS_WITH(apply(IndexSelect{}, x, index), "index_select: index 3 at place 1, want 0 to 2 (the axis has 3 entries)");
  CHECK_THROWS_WITH(apply(Embedding{}, x, Tensor::from<int64_t>({1}, {-1})),
                    "embedding: index -1 at place 0, want 0 to 2 (the axis has 3 entries)");
  CHECK_THROWS_WITH(apply(CrossEntropy{}, x, Tensor::from<int64_t>({3}, {0, 1, 2}), Tensor(), Tensor()),
                    "cross_entropy: target 2 at pixel 2, want 0 to 1 or -100 (ignore_index)");
}

TEST_CASE("NaN is the extreme, the largest in a sort, and equal values keep their order") {
  constexpr float nan = std::numeric_limits<float>::quiet_NaN();
  std::vector<float> values(40, 1.0f);
  values[37] = nan;
  values[38] = -0.0f;
  values[39] = 0.0f;
  for (const KernelChoice choice : {KernelChoice::reference, KernelChoice::hand}) {
    set_kernel_choice(choice);
    const Tensor x = Tensor::from<float>({40}, values);
    CHECK(std::isnan(apply(Max{}, x).item()));
    CHECK(std::isnan(apply(Min{}, x).item()));
    CHECK(apply(ArgMax{.axis = 0}, x).item() == 37);
    CHECK(apply(ArgMin{.axis = 0}, x).item() == 37);
    const auto up = list<int64_t>(apply(Sort{}, x)[1]), down = list<int64_t>(apply(Sort{.descending = true}, x)[1]);
    CHECK(std::vector<int64_t>(up.begin(), up.begin() + 3) == std::vector<int64_t>{38, 39, 0});
    CHECK(up.back() == 37);
    CHECK(std::vector<int64_t>(down.begin(), down.begin() + 2) == std::vector<int64_t>{37, 0});
    CHECK(std::vector<int64_t>(down.end() - 2, down.end()) == std::vector<int64_t>{38, 39});
    CHECK(list<int64_t>(apply(TopK{.k = 2}, x)[1]) == std::vector<int64_t>{37, 0});
  }
  set_kernel_choice(KernelChoice::automatic);
}

TEST_CASE("argmax and argmin of many short rows: the first of equals, NaN first of all") {
  constexpr float nan = std::numeric_limits<float>::quiet_NaN();
  const std::vector<float> row_values[] = {{2, 2, 1, 1}, {1, 2, 1, 2}, {0, nan, 3, nan}, {-1, -1, -1, -1}};
  const std::vector<int64_t> largest{0, 1, 1, 0}, smallest{2, 0, 1, 0};
  std::vector<float> values;
  std::vector<int64_t> first_largest, first_smallest;
  for (size_t r = 0; r < 37; ++r) {
    values.insert(values.end(), row_values[r % 4].begin(), row_values[r % 4].end());
    first_largest.push_back(largest[r % 4]);
    first_smallest.push_back(smallest[r % 4]);
  }
  const Tensor x = Tensor::from<float>({37, 4}, values);
  CHECK(list<int64_t>(apply(ArgMax{}, x)) == first_largest);
  CHECK(list<int64_t>(apply(ArgMin{}, x)) == first_smallest);
}

TEST_CASE("a sum of ten million tenths is right to float precision") {
  const Tensor x = Tensor::full({10'000'000}, 0.1);
  const double tenth = static_cast<double>(0.1f);
  CHECK(apply(Sum{}, x).item() == doctest::Approx(1e7 * tenth).epsilon(1e-7));
  CHECK(apply(Mean{}, x).item() == doctest::Approx(tenth).epsilon(1e-7));
  CHECK(apply(Var{}, x).item() < 1e-15);
}

TEST_CASE("a loss over nothing that counts is 0, and so is its gradient") {
  Tensor x = Tensor::full({2, 3}, 1.5);
  require_grad(x);
  const Tensor ignored = Tensor::full({2}, 255, DType::int64);
  const Tensor loss = apply(CrossEntropy{.ignore_index = 255}, x, ignored, Tensor(), Tensor())[0];
  CHECK(loss.item() == 0);
  backward(loss);
  CHECK(list<float>(grad_of(x)) == std::vector<float>(6, 0.0f));
  const Tensor empty = Tensor::zeros({0, 4});
  CHECK(apply(SmoothL1Loss{}, empty, empty).item() == 0);
  CHECK(apply(DiceLoss{.per = Per::sample}, empty, empty)[0].item() == 0);
  CHECK(apply(DiceLoss{.smooth = 0}, Tensor::zeros({1, 4}), Tensor::zeros({1, 4}))[0].item() == 0);
}

TEST_CASE("the pixel-weighted cross entropy of the UNet paper is a mean over the pixels") {
  const Tensor x = Tensor::from<float>({2, 2}, {0, 0, 2, 0});
  const Tensor target = Tensor::from<int64_t>({2}, {0, 1}), weight = Tensor::from<float>({2}, {3, 0.5});
  const double expected = (3 * std::log(2.0) + 0.5 * std::log(1 + std::exp(2.0))) / 2;
  CHECK(apply(CrossEntropy{}, x, target, Tensor(), weight)[0].item() == doctest::Approx(expected).epsilon(1e-6));
}

TEST_SUITE_END();
