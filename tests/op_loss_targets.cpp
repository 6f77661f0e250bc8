// What devices do about targets that a loss cannot have: the case table holds valid ones only.
#include <doctest/doctest.h>

#include <cmath>

#include "kernels/loss.h"
#include "tests/op_run.h"

namespace glia::tests {

TEST_SUITE_BEGIN("device");

TEST_CASE("cross entropy: a target out of range makes its pixel NaN, and no other") {
  const Device device{DeviceKind::emulated};
  for (const int64_t classes : {3, 4, 16, 130}) {
    const Tensor x = Tensor::full({4, classes}, 0.5), weight = Tensor::full({classes}, 2);
    const auto target = Tensor::from({4}, std::vector<int64_t>{0, classes, -1, classes - 1});
    Tensor on = x.to(device);
    require_grad(on);
    const Tensor value = apply(CrossEntropy{.reduction = Reduction::none}, on, target.to(device), weight.to(device), Tensor{})[0];
    backward(value, Tensor::full({4}, 1).to(device));
    const Tensor got = value.to(Device{}), dx = grad_of(on).to(Device{});
    for (int64_t i = 0; i < 4; ++i) {
      const bool bad = i == 1 || i == 2;
      CHECK(std::isnan(got.data<float>()[i]) == bad);
      for (int64_t c = 0; c < classes; ++c) CHECK(std::isnan(dx.data<float>()[i * classes + c]) == bad);
    }
  }
}

TEST_SUITE_END();

}  // namespace glia::tests
