#include "autograd/view.h"

#include "kernels/binary.h"

namespace glia {
namespace {

// Records on `y` that its gradient comes from x by `pull`.
template <class Pull>
Tensor record(const Tensor& x, Tensor y, const char* name, Pull pull) {
  if (!grad_enabled() || !wants_grad(x)) return y;
  auto node = std::make_shared<Node>();
  node->name = name;
  node->device = x.device();
  node->inputs = {x.grad_record()};
  node->specs = {TensorSpec{x.shape(), x.dtype()}};
  node->pull = [pull](const Tensor& dy, std::span<Tensor* const> grads) {
    if (grads[0]) pull(dy, *grads[0]);
  };
  auto gradient = std::make_shared<GradRecord>();
  gradient->node = std::move(node);
  y.set_grad_record(std::move(gradient));
  return y;
}

}  // namespace

Shape resolve_shape(std::span<const int64_t> dims, int64_t size) {
  std::array<int64_t, Shape::max_rank> known{};
  GLIA_CHECK(dims.size() <= known.size(), "reshape: {} dimensions, at most {}", dims.size(), known.size());
  int64_t product = 1;
  size_t open = dims.size();
  for (size_t i = 0; i < dims.size(); ++i) {
    GLIA_CHECK(dims[i] >= 0 || (dims[i] == -1 && open == dims.size()), "reshape: dimension {} is {}, want one -1 at most", i,
               dims[i]);
    known[i] = dims[i];
    if (dims[i] == -1) {
      open = i;
    } else {
      product *= dims[i];
    }
  }
  if (open < dims.size()) {
    GLIA_CHECK(product > 0 && size % product == 0, "reshape: {} elements into rows of {}", size, product);
    known[open] = size / product;
  }
  return Shape(std::span<const int64_t>(known.data(), dims.size()));
}

Tensor reshape(const Tensor& x, std::span<const int64_t> dims) {
  return record(x, x.reshape(resolve_shape(dims, x.size())), "reshape_backward",
                [](const Tensor& dy, Tensor& dx) { dx.copy_from(dy.reshape(dx.shape())); });
}

Tensor rows(const Tensor& x, int64_t begin, int64_t end) {
  return record(x, x.slice(begin, end), "rows_backward", [begin, end](const Tensor& dy, Tensor& dx) {
    dx.slice(0, begin).fill(0);
    dx.slice(begin, end).copy_from(dy);
    dx.slice(end, dx.dim(0)).fill(0);
  });
}

Tensor scale_gradient(const Tensor& x, double factor) {
  return record(x, x.detach(), "scale_gradient_backward", [factor](const Tensor& dy, Tensor& dx) {
    Mul::forward.pick(dy.device(), dy.dtype())({}, dy, Tensor::full({}, factor, dy.dtype(), dy.device()), dx);
  });
}

}  // namespace glia
