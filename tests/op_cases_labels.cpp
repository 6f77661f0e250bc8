#include "kernels/labels.h"
#include "tests/op_cases.h"

namespace glia::tests {
namespace {

// The op on an image of the case's own.
template <class Op>
OpCase image_case(const char* label, const Op& op, const Tensor& image) {
  OpCase c = op_case(label, op, {});
  c.inputs = {mask({1})};  // says where
  c.run = [op, image](std::span<const Tensor> in) { return std::vector<Tensor>{apply(op, image.to(in[0].device()))}; };
  return c;
}

// A path one pixel wide that winds inwards.
Tensor spiral(int64_t n) {
  Tensor image = Tensor::zeros({n, n}, DType::uint8);
  const auto at = [&](int64_t y, int64_t x) -> uint8_t& { return image.data<uint8_t>()[y * n + x]; };
  const auto taken = [&](int64_t y, int64_t x) { return y >= 0 && y < n && x >= 0 && x < n && at(y, x); };
  int64_t y = 0, x = -1, dy = 0, dx = 1;
  for (int turns = 0; turns < 2;) {
    const int64_t ny = y + dy, nx = x + dx;
    const bool free = ny >= 0 && ny < n && nx >= 0 && nx < n && !at(ny, nx) && !taken(ny + dy, nx + dx);
    if (!free) {
      std::swap(dy, dx);
      dx = -dx;
      ++turns;
      continue;
    }
    turns = 0;
    y = ny;
    x = nx;
    at(y, x) = 1;
  }
  return image;
}

Tensor values(const Shape& shape, int32_t count) {  // blobs of 3 x 5 pixels
  Tensor image(shape, DType::int32);
  for (int64_t i = 0; i < image.size(); ++i) {
    const int64_t y = i / shape[1] / 3, x = i % shape[1] / 5;
    image.data<int32_t>()[i] = int32_t((y * y * 7 + x * 11 + y * x) % count) - 1;
  }
  return image;
}

Tensor inside_but(const Shape& shape, std::initializer_list<int64_t> outside) {
  Tensor image = Tensor::full(shape, 1, DType::uint8);
  for (const int64_t i : outside) image.data<uint8_t>()[i] = 0;
  return image;
}

const RegisterOpCases labels([](OpCases& cases) {
  for (const Shape& shape :
       {Shape{0, 5}, Shape{1, 1}, Shape{1, 17}, Shape{13, 1}, Shape{7, 9}, Shape{33, 65}, Shape{64, 64}, Shape{5, 200}}) {
    for (const int connectivity : {4, 8})
      cases.push_back(op_case(to_string(shape), ConnectedComponents{.connectivity = connectivity}, {mask(shape)}));
    cases.push_back(op_case(to_string(shape), SquaredDistance{}, {mask(shape)}));
  }
  for (const int connectivity : {4, 8}) {
    const ConnectedComponents by_value{.connectivity = connectivity, .by_value = true};
    cases.push_back(op_case("four values", by_value, {OpInput{OpInput::Kind::mask, {37, 70}, 0, 4, false}}));
    cases.push_back(image_case("int32", ConnectedComponents{.connectivity = connectivity}, values({40, 131}, 4)));
    cases.push_back(image_case("int32 values", by_value, values({40, 131}, 5)));
    cases.push_back(image_case("a spiral", ConnectedComponents{.connectivity = connectivity}, spiral(67)));
  }
  cases.push_back(image_case("all inside", SquaredDistance{}, inside_but({40, 70}, {})));
  cases.push_back(image_case("one outside", SquaredDistance{}, inside_but({40, 70}, {33 * 70 + 12})));
  cases.push_back(image_case("two outside", SquaredDistance{}, inside_but({70, 40}, {0, 69 * 40 + 39})));
  cases.push_back(op_case("few outside", SquaredDistance{}, {OpInput{OpInput::Kind::mask, {60, 90}, 0, 200, false}}));
});

}  // namespace
}  // namespace glia::tests
