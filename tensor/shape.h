#pragma once
// Shape: up to six dimensions, inline, row-major (the last varies fastest).
#include <fmt/core.h>

#include <array>
#include <cstdint>
#include <initializer_list>
#include <span>
#include <string>

namespace glia {

class Shape {
 public:
  static constexpr int max_rank = 6;

  Shape() = default;  // rank 0: a scalar, one element
  Shape(std::initializer_list<int64_t> dims) : Shape(std::span<const int64_t>(dims.begin(), dims.size())) {}
  explicit Shape(std::span<const int64_t> dims);  // throws: rank above six, negative dimension, size beyond int64

  int rank() const { return rank_; }
  int64_t operator[](int i) const { return dims_[static_cast<size_t>(i < 0 ? rank_ + i : i)]; }
  void set(int i, int64_t n) { dims_[static_cast<size_t>(i < 0 ? rank_ + i : i)] = n; }
  int64_t size() const {  // number of elements
    int64_t n = 1;
    for (int i = 0; i < rank_; ++i) n *= dims_[static_cast<size_t>(i)];
    return n;
  }
  std::span<const int64_t> dims() const { return {dims_.data(), static_cast<size_t>(rank_)}; }
  const int64_t* begin() const { return dims_.data(); }
  const int64_t* end() const { return dims_.data() + rank_; }
  bool operator==(const Shape&) const = default;

  // Product of the dimensions [from, to).
  int64_t product(int from, int to) const {
    int64_t n = 1;
    for (int i = from; i < to; ++i) n *= dims_[static_cast<size_t>(i)];
    return n;
  }

 private:
  int rank_ = 0;
  std::array<int64_t, max_rank> dims_{};  // entries at rank_ and above stay 0
};

std::string to_string(const Shape& shape);  // "(2, 3, 4)"

// `axis` counted from 0, or from the end when negative. Throws naming `op` when out of range.
int normalize_axis(int axis, int rank, const char* op);

}  // namespace glia

template <>
struct fmt::formatter<glia::Shape> {
  constexpr auto parse(format_parse_context& c) { return c.begin(); }
  format_context::iterator format(const glia::Shape& s, format_context& c) const;
};
