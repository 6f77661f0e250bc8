#pragma once
// Tensor: a shape, an element type and a handle to dense, row-major data; images are NHWC, filters KRSC. Copying a Tensor
// copies handles, never data. The gradient record is null unless a gradient is wanted (autograd/tape.h).
#include <cstring>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "tensor/device.h"
#include "tensor/dtype.h"
#include "tensor/error.h"
#include "tensor/memory.h"
#include "tensor/shape.h"

namespace glia {

struct GradRecord;  // autograd/tape.h

class Tensor {
 public:
  Tensor() = default;  // "no tensor": false, the value of an absent optional input
  explicit Tensor(const Shape& shape, DType dtype = DType::float32, Device device = {});  // uninitialised

  static Tensor zeros(const Shape& shape, DType dtype = DType::float32, Device device = {});
  static Tensor full(const Shape& shape, double value, DType dtype = DType::float32, Device device = {});
  template <class T>
  static Tensor from(const Shape& shape, std::span<const T> values);  // copies; size must match
  template <class T>
  static Tensor from(const Shape& shape, const std::vector<T>& values) { return from(shape, std::span<const T>(values)); }
  static Tensor scalar(double value, DType dtype = DType::float32) { return full({}, value, dtype); }

  explicit operator bool() const { return defined_; }
  const Shape& shape() const { return shape_; }
  int64_t dim(int i) const { return shape_[i]; }
  int rank() const { return shape_.rank(); }
  int64_t size() const { return shape_.size(); }
  size_t bytes() const { return static_cast<size_t>(size()) * size_of(dtype_); }
  DType dtype() const { return dtype_; }
  Device device() const { return device_; }

  // Pointer to the elements, null for an empty tensor; throws when T is not the tensor's type, or the tensor is not on the host.
  template <class T>
  T* data() const {
    check_access(dtype_of<std::remove_const_t<T>>, true);
    return reinterpret_cast<T*>(raw());
  }
  // The same of a tensor that is on a device (emulated ones too): for the bodies of kernels/cuda.
  template <class T>
  T* device_data() const {
    check_access(dtype_of<std::remove_const_t<T>>, false);
    return reinterpret_cast<T*>(raw());
  }
  template <class T>
  std::span<T> values() const { return {data<T>(), static_cast<size_t>(size())}; }
  std::byte* raw() const { return data_ ? data_.get() + offset_ : nullptr; }  // an address on device()

  // The only element of a tensor of size 1, as double. Waits for the device.
  double item() const;

  Tensor reshape(const Shape& shape) const;               // same data; one dimension may be given by infer_dim
  Tensor slice(int64_t begin, int64_t end) const;         // rows [begin, end) of the first dimension, same data
  Tensor clone() const;                                   // new data
  Tensor cast(DType dtype) const;                         // new data (same handle when the type is the same); by the host
  Tensor to(Device device) const;                         // new data (same handle when it is there); to the host it waits
  void copy_from(const Tensor& source) const;             // same shape and type, any device
  void fill(double value) const;
  bool shares_data_with(const Tensor& other) const { return data_ && data_ == other.data_; }
  int64_t holders() const { return data_.use_count(); }  // tensors that share this data, this one among them

  // Same data, no gradient record.
  Tensor detach() const {
    Tensor t = *this;
    t.grad_.reset();
    return t;
  }
  const std::shared_ptr<GradRecord>& grad_record() const { return grad_; }
  void set_grad_record(std::shared_ptr<GradRecord> record) { grad_ = std::move(record); }

  // A tensor inside the storage of `arena`, starting at element `first`.
  static Tensor view(const Tensor& arena, int64_t first, const Shape& shape);

 private:
  void check_access(DType wanted, bool on_host) const;

  std::shared_ptr<std::byte> data_;
  size_t offset_ = 0;  // bytes
  Shape shape_;
  DType dtype_ = DType::float32;
  Device device_;
  bool defined_ = false;
  std::shared_ptr<GradRecord> grad_;
};

inline bool same_shape(const Tensor& a, const Tensor& b) { return a.shape() == b.shape(); }

// memcpy that allows null pointers for zero bytes.
inline void copy_bytes(void* to, const void* from, size_t bytes) {
  if (bytes) std::memcpy(to, from, bytes);
}

// Permuted copy: axis i of the result is axis axes[i] of x. Any element type.
Tensor permuted(const Tensor& x, std::span<const int> axes);
inline Tensor permuted(const Tensor& x, std::initializer_list<int> axes) {
  return permuted(x, std::span<const int>(axes.begin(), axes.size()));
}

// Calls f with a value of the C++ type of `dtype` (float or double): the entry of templated reference bodies.
template <class F>
decltype(auto) dispatch_floating(DType dtype, const char* op, F&& f) {
  if (dtype == DType::float32) return f(float{});
  if (dtype == DType::float64) return f(double{});
  throw InternalError("{}: element type {}, want float32 or float64", op, name_of(dtype));
}

// The same over all types that hold plain numbers (float16 and bfloat16 excluded).
template <class F>
decltype(auto) dispatch_numeric(DType dtype, const char* op, F&& f) {
  switch (dtype) {
    case DType::float32: return f(float{});
    case DType::float64: return f(double{});
    case DType::int32: return f(int32_t{});
    case DType::int64: return f(int64_t{});
    case DType::uint8: return f(uint8_t{});
    case DType::boolean: return f(bool{});
    default: throw InternalError("{}: no arithmetic on {}; cast to float32 first", op, name_of(dtype));
  }
}

template <class T>
Tensor Tensor::from(const Shape& shape, std::span<const T> values) {
  GLIA_CHECK(shape.size() == static_cast<int64_t>(values.size()), "tensor: {} values for shape {}", values.size(), shape);
  Tensor t(shape, dtype_of<T>);
  copy_bytes(t.raw(), values.data(), t.bytes());
  return t;
}

}  // namespace glia
