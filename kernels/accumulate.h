#pragma once
// into += x: the sum of gradients that reach one tensor by several ways. Not an op: it is what the tape itself computes.
#include "kernels/op.h"

namespace glia {

// Same shape and type (float32 or float64).
void accumulate(const Tensor& into, const Tensor& x);

}  // namespace glia
