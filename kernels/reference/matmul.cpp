// Matrix products by their definition.
#include "kernels/matmul.h"

namespace glia::reference {
namespace {

// A matrix in memory: element (i, j) at data[i * rows + j * columns].
template <class T>
struct Matrix {
  T* data;
  int64_t rows, columns;  // strides
  T& operator()(int64_t i, int64_t j) const { return data[i * rows + j * columns]; }
};

template <class T>
Matrix<T> matrix(const Tensor& t, int64_t index, bool transpose) {
  const int64_t rows = t.dim(-2), columns = t.dim(-1);
  T* data = t.data<T>() + index * rows * columns;
  return transpose ? Matrix<T>{data, 1, columns} : Matrix<T>{data, columns, 1};
}

}  // namespace

void linear(const Linear&, const Tensor& x, const Tensor& w, const Tensor& bias, Tensor& y) {
  dispatch_floating(x.dtype(), "linear", [&]<class T>(T) {
    const int64_t out = w.dim(0), in = w.dim(1), rows = y.shape().product(0, y.rank() - 1);
    for (int64_t i = 0; i < rows; ++i)
      for (int64_t o = 0; o < out; ++o) {
        T sum = 0;
        for (int64_t j = 0; j < in; ++j) sum += x.data<T>()[i * in + j] * w.data<T>()[o * in + j];
        y.data<T>()[i * out + o] = sum + (bias ? bias.data<T>()[o] : T(0));
      }
  });
}

void linear_backward(const Linear&, const Tensor& x, const Tensor& w, const Tensor&, const Tensor&, const Tensor& dy, Tensor* dx,
                     Tensor* dw, Tensor* dbias) {
  dispatch_floating(dy.dtype(), "linear_backward", [&]<class T>(T) {
    const int64_t out = w.dim(0), in = w.dim(1), rows = dy.shape().product(0, dy.rank() - 1);
    for (Tensor* t : {dx, dw, dbias})
      if (t) t->fill(0);
    for (int64_t i = 0; i < rows; ++i)
      for (int64_t o = 0; o < out; ++o) {
        const T g = dy.data<T>()[i * out + o];
        if (dbias) dbias->data<T>()[o] += g;
        for (int64_t j = 0; j < in; ++j) {
          if (dx) dx->data<T>()[i * in + j] += g * w.data<T>()[o * in + j];
          if (dw) dw->data<T>()[o * in + j] += g * x.data<T>()[i * in + j];
        }
      }
  });
}

void matmul(const Matmul& op, const Tensor& a, const Tensor& b, Tensor& y) {
  dispatch_floating(a.dtype(), "matmul", [&]<class T>(T) {
    const MatmulPlan plan = matmul_plan(op, a.shape(), b.shape());
    for (const auto& t : plan.products) {
      const auto ma = matrix<T>(a, t.a, op.transpose_a), mb = matrix<T>(b, t.b, op.transpose_b), my = matrix<T>(y, t.y, false);
      for (int64_t i = 0; i < plan.m; ++i)
        for (int64_t j = 0; j < plan.n; ++j) {
          T sum = 0;
          for (int64_t k = 0; k < plan.inner; ++k) sum += ma(i, k) * mb(k, j);
          my(i, j) = sum;
        }
    }
  });
}

void matmul_backward(const Matmul& op, const Tensor& a, const Tensor& b, const Tensor&, const Tensor& dy, Tensor* da,
                     Tensor* db) {
  dispatch_floating(dy.dtype(), "matmul_backward", [&]<class T>(T) {
    const MatmulPlan plan = matmul_plan(op, a.shape(), b.shape());
    if (da) da->fill(0);
    if (db) db->fill(0);
    for (const auto& t : plan.products)
      for (int64_t i = 0; i < plan.m; ++i)
        for (int64_t j = 0; j < plan.n; ++j) {
          const T g = matrix<T>(dy, t.y, false)(i, j);
          for (int64_t k = 0; k < plan.inner; ++k) {
            if (da) matrix<T>(*da, t.a, op.transpose_a)(i, k) += g * matrix<T>(b, t.b, op.transpose_b)(k, j);
            if (db) matrix<T>(*db, t.b, op.transpose_b)(k, j) += g * matrix<T>(a, t.a, op.transpose_a)(i, k);
          }
        }
  });
}

}  // namespace glia::reference
