#include "tensor/tensor.h"

#include <algorithm>

#include "tensor/stream.h"

namespace glia {
namespace {

// Calls f with a value of the C++ type of any dtype, storage types included.
template <class F>
void dispatch_all(DType dtype, F&& f) {
  if (dtype == DType::float16) return f(Half{});
  if (dtype == DType::bfloat16) return f(BFloat16{});
  dispatch_numeric(dtype, "tensor", f);
}

template <class To, class From>
To convert(From x) {
  constexpr bool from_storage = std::is_same_v<From, Half> || std::is_same_v<From, BFloat16>;
  if constexpr (from_storage) {
    return convert<To>(static_cast<float>(x));
  } else if constexpr (std::is_same_v<To, Half> || std::is_same_v<To, BFloat16>) {
    return To(static_cast<float>(x));
  } else if constexpr (std::is_same_v<To, bool>) {
    return x != From(0);
  } else {
    return static_cast<To>(x);
  }
}

}  // namespace

Tensor::Tensor(const Shape& shape, DType dtype, Device device)
    : data_(allocate(static_cast<size_t>(shape.size()) * size_of(dtype), device, shape, dtype)),
      shape_(shape), dtype_(dtype), device_(device), defined_(true) {}

Tensor Tensor::zeros(const Shape& shape, DType dtype, Device device) {
  Tensor t(shape, dtype, device);
  t.fill(0);
  return t;
}

Tensor Tensor::full(const Shape& shape, double value, DType dtype, Device device) {
  Tensor t(shape, dtype, device);
  t.fill(value);
  return t;
}

Tensor Tensor::view(const Tensor& arena, int64_t first, const Shape& shape) {
  GLIA_CHECK(first >= 0 && first + shape.size() <= arena.size(), "tensor view: {} elements at {} of an arena of {}",
             shape.size(), first, arena.size());
  Tensor t = arena.detach();
  t.offset_ += static_cast<size_t>(first) * size_of(arena.dtype_);
  t.shape_ = shape;
  return t;
}

void Tensor::check_access(DType wanted, bool on_host) const {
  GLIA_CHECK(defined_, "tensor: data of an absent tensor was asked for (an input that the op did not save?)");
  GLIA_CHECK(wanted == dtype_, "tensor: {} data read as {}, shape {}", name_of(dtype_), name_of(wanted), shape_);
  GLIA_CHECK(on_host == (device_.kind == DeviceKind::cpu), "tensor: {} {} on {} used by code for {}", name_of(dtype_), shape_,
             to_string(device_), on_host ? "the host (a missing .to(Device{})?)" : "devices");
}

double Tensor::item() const {
  GLIA_CHECK(defined_ && size() == 1, "item: shape {}, want one element", shape_);
  if (device_.kind != DeviceKind::cpu) return to(Device{}).item();
  double value = 0;
  dispatch_all(dtype_, [&](auto t) { value = convert<double>(*data<decltype(t)>()); });
  return value;
}

Tensor Tensor::reshape(const Shape& shape) const {
  GLIA_CHECK(shape.size() == size(), "reshape: {} to {}: the number of elements differs", shape_, shape);
  Tensor t = detach();
  t.shape_ = shape;
  return t;
}

Tensor Tensor::slice(int64_t begin, int64_t end) const {
  GLIA_CHECK(rank() >= 1 && 0 <= begin && begin <= end && end <= dim(0), "slice: rows {} to {} of {}", begin, end, shape_);
  Tensor t = detach();
  t.shape_.set(0, end - begin);
  t.offset_ += static_cast<size_t>(begin * shape_.product(1, rank())) * size_of(dtype_);
  return t;
}

Tensor Tensor::clone() const {
  Tensor t(shape_, dtype_, device_);
  copy_memory(t.raw(), device_, raw(), device_, bytes());
  return t;
}

Tensor Tensor::cast(DType dtype) const {
  if (dtype == dtype_) return detach();
  if (device_.kind != DeviceKind::cpu) return to(Device{}).cast(dtype).to(device_);
  Tensor t(shape_, dtype, device_);
  dispatch_all(dtype_, [&](auto from) {
    using From = decltype(from);
    const From* source = data<From>();
    dispatch_all(dtype, [&](auto to) {
      using To = decltype(to);
      std::transform(source, source + size(), t.data<To>(), [](From x) { return convert<To>(x); });
    });
  });
  return t;
}

Tensor Tensor::to(Device device) const {
  if (!defined_ || device == device_) return *this;
  Tensor t(shape_, dtype_, device);
  copy_memory(t.raw(), device, raw(), device_, bytes());
  return t;
}

void Tensor::copy_from(const Tensor& source) const {
  GLIA_CHECK(source.shape() == shape_ && source.dtype() == dtype_, "copy: {} {} into {} {}", name_of(source.dtype()),
             source.shape(), name_of(dtype_), shape_);
  copy_memory(raw(), device_, source.raw(), source.device_, bytes());
}

void Tensor::fill(double value) const {
  if (size() == 0) return;
  dispatch_all(dtype_, [&](auto t) {
    using T = decltype(t);
    const T element = convert<T>(value);
    if (device_.kind == DeviceKind::cpu) {
      std::fill_n(data<T>(), size(), element);
    } else {
      check(runtime_of(device_).fill(raw(), &element, sizeof(T), static_cast<size_t>(size()), compute_stream(device_)), device_);
    }
  });
}

Tensor permuted(const Tensor& x, std::span<const int> axes) {
  const int rank = x.rank();
  GLIA_CHECK(static_cast<int>(axes.size()) == rank, "permute: {} axes for shape {}", axes.size(), x.shape());
  GLIA_CHECK(x.device().kind == DeviceKind::cpu, "permute: {} on {}: the op Permute does it there", x.shape(), to_string(x.device()));
  std::array<int64_t, Shape::max_rank> in_stride{}, dims{}, stride{}, at{};
  int64_t running = 1;
  for (int i = rank - 1; i >= 0; --i) {
    in_stride[size_t(i)] = running;
    running *= x.dim(i);
  }
  unsigned seen = 0;
  for (int i = 0; i < rank; ++i) {
    const int axis = normalize_axis(axes[size_t(i)], rank, "permute");
    GLIA_CHECK(!(seen >> axis & 1u), "permute: axis {} twice", axis);
    seen |= 1u << axis;
    dims[size_t(i)] = x.dim(axis);
    stride[size_t(i)] = in_stride[size_t(axis)];
  }
  Tensor y(Shape(std::span<const int64_t>(dims.data(), size_t(rank))), x.dtype(), x.device());
  const size_t width = size_of(x.dtype());
  const std::byte* source = x.raw();
  std::byte* to = y.raw();
  for (int64_t n = y.size(), from = 0; n > 0; --n, to += width) {
    std::memcpy(to, source + static_cast<size_t>(from) * width, width);
    for (int i = rank - 1; i >= 0; --i) {  // odometer
      from += stride[size_t(i)];
      if (++at[size_t(i)] < dims[size_t(i)]) break;
      from -= stride[size_t(i)] * dims[size_t(i)];
      at[size_t(i)] = 0;
    }
  }
  return y;
}

}  // namespace glia
