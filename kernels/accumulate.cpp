#include "kernels/accumulate.h"

#include "tensor/parallel.h"

namespace glia {

void accumulate(const Tensor& into, const Tensor& x) {
  GLIA_CHECK(same_shape(into, x), "accumulate: {} into {}", x.shape(), into.shape());
  dispatch_floating(x.dtype(), "accumulate", [&]<class T>(T) {
    T* to = into.data<T>();
    const T* from = x.data<T>();
    parallel_for(x.size(), 1 << 16, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) to[i] += from[i];
    });
  });
}

}  // namespace glia
