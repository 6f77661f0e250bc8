#include "kernels/unary.h"

namespace glia::reference {

#define GLIA_DEFINE_UNARY(function, Op, Saves, Y, DYDX, Parameters)                                            \
  void function([[maybe_unused]] const Op& op, const Tensor& in, Tensor& out) {                              \
    dispatch_floating(in.dtype(), #function, [&]<class T>(T) {                                               \
      for (int64_t i = 0; i < in.size(); ++i) {                                                              \
        const T x = in.data<T>()[i];                                                                         \
        out.data<T>()[i] = Y;                                                                                \
      }                                                                                                      \
    });                                                                                                      \
  }                                                                                                          \
  void function##_backward([[maybe_unused]] const Op& op, const Tensor& in, const Tensor& out,               \
                           const Tensor& dy, Tensor* dx) {                                                   \
    if (!dx) return;                                                                                         \
    dispatch_floating(dy.dtype(), #function, [&]<class T>(T) {                                               \
      for (int64_t i = 0; i < dy.size(); ++i) {                                                              \
        [[maybe_unused]] const T x = in ? in.data<T>()[i] : T();                                             \
        [[maybe_unused]] const T y = out ? out.data<T>()[i] : T();                                           \
        dx->data<T>()[i] = dy.data<T>()[i] * (DYDX);                                                         \
      }                                                                                                      \
    });                                                                                                      \
  }
GLIA_UNARY_OPS(GLIA_DEFINE_UNARY)
#undef GLIA_DEFINE_UNARY

}  // namespace glia::reference
