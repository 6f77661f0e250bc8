#include <cmath>

#include "kernels/labels.h"
#include "tensor/random.h"
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

// ---- watershed ----------------------------------------------------------------------------------------------------------------

// Numbers 0 to count - 1 without a pattern.
std::vector<double> draws(const Shape& shape, uint64_t count, uint64_t seed) {
  std::vector<double> list(size_t(shape.size()));
  const Philox random(seed, 0);
  for (size_t i = 0; i < list.size(); ++i) list[i] = double(random.below(i, count));
  return list;
}

OpInput levels(const Shape& shape, uint64_t count) { return given(shape, draws(shape, count, 31)); }

// A marker at about every `spacing`-th pixel, of both signs.
OpInput markers(const Shape& shape, uint64_t spacing) {
  std::vector<double> list = draws(shape, spacing, 32);
  for (size_t i = 0; i < list.size(); ++i) list[i] = list[i] > 0 ? 0 : double(i % 2 ? -int64_t(i) - 1 : int64_t(i) + 1);
  return given(shape, list, DType::int32);
}

OpInput markers_at(const Shape& shape, std::initializer_list<int64_t> places) {
  std::vector<double> list(size_t(shape.size()));
  double label = 0;
  for (const int64_t i : places) list[size_t(i)] = ++label;
  return given(shape, list, DType::int32);
}

OpInput mostly_inside(const Shape& shape) { return {OpInput::Kind::mask, shape, 0, 8, false}; }  // 7 of 8 pixels

OpInput image_input(const Tensor& image) {
  std::vector<double> list;
  for (const uint8_t v : image.values<uint8_t>()) list.push_back(v);
  return given(image.shape(), list, DType::uint8);
}

void watershed_cases(OpCases& cases) {
  for (const int connectivity : {4, 8}) {
    const Watershed op{.connectivity = connectivity};
    const auto add = [&](const std::string& label, OpInput x, OpInput seeds, OpInput mask = absent()) {
      cases.push_back(op_case(label + (connectivity == 4 ? ", sides" : ", corners"), op, {x, seeds, mask}));
    };
    for (const Shape& shape : {Shape{0, 5}, Shape{1, 1}, Shape{1, 17}, Shape{13, 1}, Shape{7, 9}, Shape{33, 65}, Shape{5, 200}})
      add(to_string(shape), levels(shape, 5), markers(shape, 15), mostly_inside(shape));
    const Shape square{64, 64}, wide{40, 70};
    add("a plateau", levels(square, 1), markers(square, 200));
    add("two levels", levels(square, 2), markers(square, 60), mostly_inside(square));
    add("all values distinct", constant(distinct(square)), markers(square, 100));
    add("half outside", levels(wide, 3), markers(wide, 20), mask(wide));
    add("values below the markers'", constant(normal(wide)), markers_at(wide, {0, 35, 1400, 2799}));
    add("two equal ways", levels({33, 67}, 1), markers_at({33, 67}, {16 * 67, 16 * 67 + 66}));
    add("a single marker", levels(wide, 6), markers_at(wide, {20 * 70 + 35}));
    add("no marker", levels(wide, 6), markers_at(wide, {}));
    add("a marker outside", levels({1, 4}, 2), markers_at({1, 4}, {1, 3}), given({1, 4}, {1, 0, 1, 1}, DType::uint8));
    add("ways through many tiles", levels({41, 41}, 4), markers_at({41, 41}, {0}), image_input(spiral(41)));
    const double nan = std::nan(""), infinity = INFINITY;
    add("NaN and infinities", given({3, 7}, {0, 1,   nan, infinity,  infinity, -nan, 0,    //
                                             0, nan, nan, -infinity, 2,        nan,  -0.,  //
                                             0, 3,   nan, infinity,  infinity, 5,    nan}),
        markers_at({3, 7}, {0, 13, 17}));
  }
}

const RegisterOpCases watershed(watershed_cases);

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
