#include "kernels/binary.h"

namespace glia::reference {
namespace {

// Calls f(i, offset in a, offset in b) for each element i of `whole`, in order.
template <class F>
void for_each_pair(const Shape& whole, const Shape& a, const Shape& b, F&& f) {
  const auto sa = broadcast_strides(a, whole), sb = broadcast_strides(b, whole);
  std::array<int64_t, Shape::max_rank> index{};
  for (int64_t i = 0; i < whole.size(); ++i) {
    int64_t ia = 0, ib = 0;
    for (size_t d = 0; d < index.size(); ++d) ia += index[d] * sa[d], ib += index[d] * sb[d];
    f(i, ia, ib);
    for (int d = whole.rank() - 1; d >= 0 && ++index[size_t(d)] == whole[d]; --d) index[size_t(d)] = 0;
  }
}

}  // namespace

#define GLIA_DEFINE_BINARY(function, Op, Saves, Y, DYDA, DYDB)                                                     \
  void function(const Op&, const Tensor& ta, const Tensor& tb, Tensor& ty) {                                      \
    dispatch_floating(ty.dtype(), #function, [&]<class T>(T) {                                                    \
      for_each_pair(ty.shape(), ta.shape(), tb.shape(), [&](int64_t i, int64_t ia, int64_t ib) {                  \
        const T a = ta.data<T>()[ia], b = tb.data<T>()[ib];                                                       \
        ty.data<T>()[i] = Y;                                                                                      \
      });                                                                                                         \
    });                                                                                                           \
  }                                                                                                               \
  void function##_backward(const Op&, const Tensor& ta, const Tensor& tb, const Tensor&, const Tensor& dy,        \
                           Tensor* da, Tensor* db) {                                                              \
    if (da) da->fill(0);                                                                                          \
    if (db) db->fill(0);                                                                                          \
    const Shape& shape_a = ta ? ta.shape() : da ? da->shape() : dy.shape();                                       \
    const Shape& shape_b = tb ? tb.shape() : db ? db->shape() : dy.shape();                                       \
    dispatch_floating(dy.dtype(), #function, [&]<class T>(T) {                                                    \
      for_each_pair(dy.shape(), shape_a, shape_b, [&](int64_t i, int64_t ia, int64_t ib) {                        \
        [[maybe_unused]] const T a = ta ? ta.data<T>()[ia] : T(), b = tb ? tb.data<T>()[ib] : T();                \
        if (da) da->data<T>()[ia] += dy.data<T>()[i] * (DYDA);                                                    \
        if (db) db->data<T>()[ib] += dy.data<T>()[i] * (DYDB);                                                    \
      });                                                                                                         \
    });                                                                                                           \
  }
GLIA_BINARY_OPS(GLIA_DEFINE_BINARY)
#undef GLIA_DEFINE_BINARY

}  // namespace glia::reference
