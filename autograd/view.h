#pragma once
// Differentiable views: they share the data of x and only remember how the gradient goes back.
#include <initializer_list>
#include <span>

#include "autograd/tape.h"

namespace glia {

// The shape with at most one -1 in `dims` replaced so that it has `size` elements. Throws when there is none.
Shape resolve_shape(std::span<const int64_t> dims, int64_t size);

// Same data, other shape; one dimension may be -1.
Tensor reshape(const Tensor& x, std::span<const int64_t> dims);
inline Tensor reshape(const Tensor& x, std::initializer_list<int64_t> dims) {
  return reshape(x, std::span<const int64_t>(dims.begin(), dims.size()));
}
inline Tensor reshape(const Tensor& x, const Shape& shape) { return reshape(x, shape.dims()); }

// [begin, end) of the first dimension, same data. (Other axes: Slice of kernels/shape.h, which copies.)
Tensor rows(const Tensor& x, int64_t begin, int64_t end);

// x itself; its gradient is multiplied by `factor`.
Tensor scale_gradient(const Tensor& x, double factor);

}  // namespace glia
