#include "kernels/dropout.h"

#include <cmath>

namespace glia {
namespace {

void check_probability(const char* op, double p) { GLIA_CHECK(p >= 0 && p <= 1, "{}: p is {}, want 0 to 1", op, p); }

}  // namespace

uint32_t dropout_threshold(double p) { return static_cast<uint32_t>(std::ceil(p * 0x1p24)); }

TensorSpec Dropout::infer(const Tensor& x) const {
  check_probability("dropout", p);
  return {x.shape(), x.dtype()};
}

TensorSpec MaskedDropout::infer(const Tensor& x, const Tensor& mask) const {
  check_probability("masked_dropout", p);
  GLIA_CHECK(same_shape(x, mask) && mask.dtype() == DType::uint8, "masked_dropout: mask is {} {}, want uint8 {}",
             name_of(mask.dtype()), mask.shape(), x.shape());
  return {x.shape(), x.dtype()};
}

}  // namespace glia
