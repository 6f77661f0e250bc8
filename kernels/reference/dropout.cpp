#include "kernels/dropout.h"

#include "tensor/random.h"

namespace glia::reference {

void dropout(const Dropout& op, const Tensor& x, Tensor& y) {
  const Philox random(op.seed, op.stream);
  dispatch_floating(x.dtype(), "dropout", [&]<class T>(T) {
    for (int64_t i = 0; i < x.size(); ++i)
      y.data<T>()[i] = random.uniform(uint64_t(i)) >= op.p ? x.data<T>()[i] * T(op.scale()) : T(0);
  });
}

void dropout_backward(const Dropout& op, const Tensor&, const Tensor&, const Tensor& dy, Tensor* dx) {
  if (dx) dropout(op, dy, *dx);
}

void masked_dropout(const MaskedDropout& op, const Tensor& x, const Tensor& mask, Tensor& y) {
  dispatch_floating(x.dtype(), "masked_dropout", [&]<class T>(T) {
    for (int64_t i = 0; i < x.size(); ++i) y.data<T>()[i] = mask.data<uint8_t>()[i] ? x.data<T>()[i] * T(op.scale()) : T(0);
  });
}

void masked_dropout_backward(const MaskedDropout& op, const Tensor&, const Tensor& mask, const Tensor&, const Tensor& dy,
                             Tensor* dx, Tensor* dmask) {
  GLIA_CHECK(!dmask, "masked_dropout: the mask has no gradient");
  if (dx) masked_dropout(op, dy, mask, *dx);
}

}  // namespace glia::reference
