// Plain loops that the compiler vectorises once per SIMD target; the target is chosen at run time.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/unary.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include <cmath>

#include "kernels/unary.h"
#include "tensor/parallel.h"

HWY_BEFORE_NAMESPACE();
namespace glia::cpu::HWY_NAMESPACE {
namespace {

using T = float;
constexpr int64_t grain = 1 << 15;

#define GLIA_DEFINE_UNARY(function, Op, Saves, Y, DYDX, Parameters)                                                         \
  void function([[maybe_unused]] const Op& op, const Tensor& in, Tensor& out) {                                                    \
    const T* source = in.data<T>();                                                                            \
    T* to = out.data<T>();                                                                                     \
    parallel_for(in.size(), grain, [&](int64_t begin, int64_t end) {                                           \
      for (int64_t i = begin; i < end; ++i) {                                                                  \
        const T x = source[i];                                                                                 \
        to[i] = Y;                                                                                             \
      }                                                                                                        \
    });                                                                                                        \
  }                                                                                                            \
  void function##_backward([[maybe_unused]] const Op& op, const Tensor& in, const Tensor& out, const Tensor& dy, Tensor* dx) {     \
    if (!dx) return;                                                                                           \
    const T* g = dy.data<T>();                                                                                 \
    const T* saved = in ? in.data<T>() : out ? out.data<T>() : g;                                              \
    T* to = dx->data<T>();                                                                                     \
    parallel_for(dy.size(), grain, [&](int64_t begin, int64_t end) {                                           \
      for (int64_t i = begin; i < end; ++i) {                                                                  \
        [[maybe_unused]] const T x = saved[i], y = saved[i];                                                   \
        to[i] = g[i] * (DYDX);                                                                                 \
      }                                                                                                        \
    });                                                                                                        \
  }
GLIA_UNARY_OPS(GLIA_DEFINE_UNARY)
#undef GLIA_DEFINE_UNARY

}  // namespace
}  // namespace glia::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace glia::cpu {

#define GLIA_EXPORT_UNARY(function, Op, Saves, Y, DYDX, Parameters)                                                        \
  HWY_EXPORT(function);                                                                                        \
  HWY_EXPORT(function##_backward);                                                                             \
  void function(const Op& op, const Tensor& x, Tensor& y) { HWY_DYNAMIC_DISPATCH(function)(op, x, y); }        \
  void function##_backward(const Op& op, const Tensor& x, const Tensor& y, const Tensor& dy, Tensor* dx) {     \
    HWY_DYNAMIC_DISPATCH(function##_backward)(op, x, y, dy, dx);                                               \
  }
GLIA_UNARY_OPS(GLIA_EXPORT_UNARY)
#undef GLIA_EXPORT_UNARY

}  // namespace glia::cpu
#endif
