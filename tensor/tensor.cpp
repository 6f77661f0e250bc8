#include "tensor/tensor.h"

#include <algorithm>

#include "tensor/parallel.h"
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
      shape_(shape),
      dtype_(dtype),
      device_(device),
      defined_(true) {}

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
  GLIA_CHECK(first >= 0 && first + shape.size() <= arena.size(), "tensor view: {} elements at {} of an arena of {}", shape.size(),
             first, arena.size());
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

namespace {

using Axes = std::array<int64_t, Shape::max_rank>;

// Elements of `width` bytes: the first axis in parallel, the last one in a tight loop, those between by an odometer.
template <size_t width>
void permute_elements(const std::byte* from, std::byte* to, size_t rank, const Axes& dims, const Axes& stride) {
  const size_t last = rank - 1;
  int64_t rows = 1;  // of the last axis, for each index of the first
  for (size_t i = 1; i < last; ++i) rows *= dims[i];
  const int64_t slice = rows * dims[last];
  parallel_for(dims[0], std::max<int64_t>(1, (1 << 16) / std::max<int64_t>(1, slice)), [&](int64_t begin, int64_t end) {
    std::byte* out = to + size_t(begin * slice) * width;
    for (int64_t first = begin; first < end; ++first) {
      Axes at{};
      int64_t offset = first * stride[0];
      for (int64_t row = 0; row < rows; ++row) {
        for (int64_t j = 0; j < dims[last]; ++j, out += width)
          std::memcpy(out, from + size_t(offset + j * stride[last]) * width, width);
        for (size_t i = last; i-- > 1;) {
          offset += stride[i];
          if (++at[i] < dims[i]) break;
          offset -= stride[i] * dims[i];
          at[i] = 0;
        }
      }
    }
  });
}

}  // namespace

Tensor permuted(const Tensor& x, std::span<const int> axes) {
  const int rank = x.rank();
  GLIA_CHECK(static_cast<int>(axes.size()) == rank, "permute: {} axes for shape {}", axes.size(), x.shape());
  GLIA_CHECK(x.device().kind == DeviceKind::cpu, "permute: {} on {}: the op Permute does it there", x.shape(),
             to_string(x.device()));
  std::array<int64_t, Shape::max_rank> in_stride{}, dims{}, stride{};
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
  if (x.size() == 0) return y;
  size_t used = size_t(rank);
  while (used < 2) {  // the loop wants a first and a last axis
    std::rotate(dims.begin(), dims.end() - 1, dims.end()), dims[0] = 1;
    std::rotate(stride.begin(), stride.end() - 1, stride.end()), stride[0] = 0;
    ++used;
  }
  switch (size_of(x.dtype())) {
    case 1: permute_elements<1>(x.raw(), y.raw(), used, dims, stride); break;
    case 2: permute_elements<2>(x.raw(), y.raw(), used, dims, stride); break;
    case 4: permute_elements<4>(x.raw(), y.raw(), used, dims, stride); break;
    case 8: permute_elements<8>(x.raw(), y.raw(), used, dims, stride); break;
    default: throw InternalError("permute: elements of {} bytes", size_of(x.dtype()));
  }
  return y;
}

}  // namespace glia
