#include "kernels/loss_region.h"

namespace glia {

Per parse_per(std::string_view text) {
  if (text == "batch") return Per::batch;
  if (text == "sample") return Per::sample;
  throw UsageError("region loss per '{}': want batch or sample", text);
}

namespace detail {

int64_t regions_of(const Tensor& x, Per per) {
  if (x.size() == 0) return 0;
  return per == Per::sample ? x.dim(0) : 1;
}

std::array<TensorSpec, 2> infer_region_loss(const Tensor& x, const Tensor& t, Per per, const char* op) {
  GLIA_CHECK(is_floating(x.dtype()) && x.dtype() == t.dtype(), "{}: x is {}, the target {}, want both float32 or both float64",
             op, name_of(x.dtype()), name_of(t.dtype()));
  GLIA_CHECK(same_shape(x, t) && x.rank() >= 1, "{}: x is {}, the target {}, want the same shape, samples first", op, x.shape(),
             t.shape());
  return {TensorSpec{{}, x.dtype()}, TensorSpec{{regions_of(x, per), 3}, DType::float64}};
}

}  // namespace detail

std::array<TensorSpec, 2> LovaszHinge::infer(const Tensor& x, const Tensor& t) const {
  const auto specs = detail::infer_region_loss(x, t, per, "lovasz_hinge_loss");
  return {specs[0], TensorSpec{x.shape(), x.dtype()}};
}

}  // namespace glia
