// Label-map algorithms: the fast bodies against the reference on random maps of many shapes, and small worked examples.
#include <doctest/doctest.h>

#include <string>

#include "data/contours.h"
#include "data/image_ops.h"
#include "data/image_resize.h"
#include "data/rle.h"
#include "kernels/labels.h"
#include "tensor/parallel.h"
#include "tensor/random.h"

using namespace glia;

namespace {

constexpr std::pair<int, int> shapes[] = {{0, 0}, {0, 3}, {3, 0}, {1, 1}, {1, 17}, {17, 1}, {8, 8}, {9, 23}, {40, 33}, {65, 130}};

template <class Op>
void check_variants(const Op& op, const Tensor& x) {
  const TensorSpec spec = op.infer(x);
  Tensor want(spec.shape, spec.dtype), got(spec.shape, spec.dtype);
  Op::forward.reference(op, x, want);
  Op::forward.cpu(op, x, got);
  for (int64_t i = 0; i < want.size(); ++i) REQUIRE(got.data<int32_t>()[i] == want.data<int32_t>()[i]);
}

// Rows of digits and dots; a space starts a row.
Tensor map_of(const std::string& text) {
  std::vector<int32_t> values;
  int64_t h = 1;
  for (const char c : text) {
    if (c == ' ') {
      ++h;
    } else {
      values.push_back(c == '.' ? 0 : c - '0');
    }
  }
  return Tensor::from({h, int64_t(values.size()) / h}, values);
}

std::string text_of(const Tensor& map) {
  std::string text;
  for (int64_t i = 0; i < map.size(); ++i) {
    if (i && i % map.dim(1) == 0) text += ' ';
    const int32_t v = map.data<int32_t>()[i];
    text += v ? char('0' + v) : '.';
  }
  return text;
}

}  // namespace

TEST_SUITE_BEGIN("data");

TEST_CASE("components and distances: both bodies agree") {
  uint64_t seed = 0;
  for (const auto& [h, w] : shapes) {
    for (const double share : {0.1, 0.5, 0.6, 0.97, 1.0}) {
      Random random(++seed);
      Tensor mask({h, w}, DType::uint8), values({h, w}, DType::int32);
      for (int64_t i = 0; i < mask.size(); ++i) {
        mask.data<uint8_t>()[i] = random.uniform() < share ? uint8_t(1 + random.below(255)) : uint8_t(0);
        values.data<int32_t>()[i] = int32_t(random.below(3)) * 1000;
      }
      INFO(h, " x ", w, ", share ", share);
      for (const int connectivity : {4, 8}) {
        for (const bool by_value : {false, true}) {
          check_variants(ConnectedComponents{connectivity, by_value}, mask);
          check_variants(ConnectedComponents{connectivity, by_value}, values);
        }
      }
      check_variants(SquaredDistance{}, mask);
    }
  }
  CHECK(squared_distance(Tensor::full({3, 4}, 1, DType::uint8)).data<int32_t>()[5] == 49);  // nothing outside: (H + W)^2
  CHECK_THROWS_AS(connected_components(Tensor({2, 2}, DType::float32)), Error);
  CHECK_THROWS_AS(connected_components(Tensor::zeros({2, 2}, DType::uint8), {.connectivity = 6}), Error);
}

TEST_CASE("the same distances with 1, 2 and 4 threads") {
  Random random(11);
  Tensor mask({200, 150}, DType::uint8);
  for (int64_t i = 0; i < mask.size(); ++i) mask.data<uint8_t>()[i] = random.uniform() < 0.99;
  const int before = num_threads();
  set_num_threads(1);
  const Tensor want = squared_distance(mask);
  for (const int n : {2, 4}) {
    set_num_threads(n);
    const Tensor got = squared_distance(mask);
    CHECK(std::memcmp(got.raw(), want.raw(), want.bytes()) == 0);
  }
  set_num_threads(before);
}

TEST_CASE("holes, small labels, renumbering, growth") {
  CHECK(text_of(fill_label_holes(map_of("11111 1...1 11111 .222. .2.2."))) == "11111 11111 11111 .222. .2.2.");
  CHECK(text_of(fill_label_holes(map_of("1111 1..2 1222"))) == "1111 1..2 1222");  // a hole between two labels stays
  CHECK(text_of(remove_small_labels(map_of("11..2 1...2 ..3.."), 2)) == "11..2 1...2 .....");
  int64_t count = 0;
  CHECK(text_of(relabel(map_of("7.5 .5. 9.."), &count)) == "2.1 .1. 3..");
  CHECK(count == 3);
  // Steps alternate between sides only and sides and corners.
  CHECK(text_of(grow_labels(map_of("..... ..... ..1.. ..... ....."), 1)) == "..... ..1.. .111. ..1.. .....");
  CHECK(text_of(grow_labels(map_of("..... ..... ..1.. ..... ....."), 2)) == ".111. 11111 11111 11111 .111.");
  CHECK(text_of(grow_labels(map_of("1...2"), 5)) == "11122");  // the middle pixel is a tie: the lower label
  const Tensor wall = Tensor::from<uint8_t>({1, 5}, {1, 1, 0, 1, 1});
  CHECK(text_of(grow_labels(map_of("1...."), 5, wall)) == "11...");

  const auto facts = label_facts(map_of("..22 .222 3..."));
  REQUIRE(facts.size() == 4);
  CHECK(facts[1].pixels == 0);
  CHECK(facts[2].pixels == 5);
  CHECK(facts[2].x0 == 1);
  CHECK(facts[2].x1 == 4);
  CHECK(facts[2].y1 == 2);
  CHECK(facts[2].y == doctest::Approx(0.6));
  CHECK(facts[2].x == doctest::Approx(2.2));
  CHECK_THROWS_AS(label_facts(Tensor::full({1, 1}, -1, DType::int32)), DataError);
}

TEST_CASE("watershed of two basins, with and without a line") {
  const Tensor x = Tensor::from<float>({1, 7}, {0, 1, 2, 3, 2, 1, 0});
  const Tensor markers = map_of("1.....2");
  CHECK(text_of(watershed(x, markers)) == "1111222");
  CHECK(text_of(watershed(x, markers, {}, {.line = true})) == "111.222");
  CHECK(text_of(watershed(x, markers, Tensor::from<uint8_t>({1, 7}, {1, 1, 0, 1, 1, 1, 1}))) == "11.2222");
  CHECK(watershed(Tensor({0, 4}), Tensor({0, 4}, DType::int32)).size() == 0);
}

TEST_CASE("the op Watershed: its ties, and scikit-image's labels where there are none") {
  const auto flood = [](const Tensor& x, const Tensor& markers, const Tensor& mask = {}, int connectivity = 4) {
    const Watershed op{.connectivity = connectivity};
    const TensorSpec spec = op.infer(x, markers, mask);
    Tensor labels(spec.shape, spec.dtype);
    Watershed::forward.cpu(op, x, markers, mask, labels);
    return labels;
  };
  const auto row = [&](const std::vector<float>& x, const char* markers) {
    return text_of(flood(Tensor::from({1, int64_t(x.size())}, x), map_of(markers)));
  };
  CHECK(row({0, 1, 2, 3, 2, 1, 0}, "1.....2") == "1111222");  // a tie: the first neighbour,
  CHECK(row({0, 1, 2, 3, 2, 1, 0}, "2.....1") == "2222111");  // whatever its number
  CHECK(row({0, 3, 3, 3, 2}, "1...2") == "11122");            // the flood rises to 3 on both sides, from wherever
  CHECK(row({3, 3, 3, 3, 0}, "1...2") == "11222");            // what rises comes before a marker's neighbours,
  CHECK(row({3, 3, 3, 0}, "1..2") == "1122");                 // but after the marker
  CHECK(row({0, NAN, 1, INFINITY, 0}, "1...2") == "11222");   // NaN is above all

  uint64_t seed = 0;
  for (const auto& [h, w] : shapes) {
    Random random(++seed);
    std::vector<float> heights(size_t(h * w));
    for (size_t i = 0; i < heights.size(); ++i) heights[i] = float(i);
    for (size_t i = heights.size(); i > 1; --i) std::swap(heights[i - 1], heights[random.below(i)]);
    const Tensor x = Tensor::from(Shape{h, w}, heights);
    Tensor markers(x.shape(), DType::int32), mask(x.shape(), DType::uint8);
    for (int64_t i = 0; i < x.size(); ++i) {
      markers.data<int32_t>()[i] = random.below(12) == 0 ? int32_t(i + 1) : 0;
      mask.data<uint8_t>()[i] = random.below(9) != 0;
    }
    for (const int connectivity : {4, 8}) {
      const Tensor got = flood(x, markers, mask, connectivity),
                   want = watershed(x, markers, mask, {.connectivity = connectivity});
      INFO(h, " x ", w, ", connectivity ", connectivity);
      for (int64_t i = 0; i < x.size(); ++i) REQUIRE(got.data<int32_t>()[i] == want.data<int32_t>()[i]);
    }
  }
  const Tensor x({2, 3}), markers({2, 3}, DType::int32);
  CHECK_THROWS_AS(flood(x, markers, {}, 6), Error);
  CHECK_THROWS_AS(flood(x, x), Error);
  CHECK_THROWS_AS(flood(x, markers, Tensor({3, 2}, DType::uint8)), Error);
  const Device emulated{DeviceKind::emulated};
  CHECK_THROWS_AS(watershed(x.to(emulated), markers.to(emulated)), Error);  // by scikit-image's rules on the host alone
}

TEST_CASE("peaks: spacing, threshold, border, flat images") {
  Tensor x = Tensor::zeros({9, 9});
  x.data<float>()[4 * 9 + 2] = 5;
  x.data<float>()[4 * 9 + 4] = 6;
  x.data<float>()[0] = 7;
  const PeakLocalMax near{.min_distance = 1, .exclude_border = false}, far{.min_distance = 3, .exclude_border = false};
  CHECK(peak_local_max(x, near).dim(0) == 3);
  const Tensor spaced = peak_local_max(x, far);
  REQUIRE(spaced.dim(0) == 2);
  CHECK(spaced.data<int32_t>()[0] == 0);  // the highest first
  CHECK(spaced.data<int32_t>()[3] == 4);
  CHECK(peak_local_max(x, {.min_distance = 3}).dim(0) == 1);
  CHECK(peak_local_max(x, {.min_distance = 1, .exclude_border = false, .use_threshold = true, .threshold = 5.5f}).dim(0) == 2);
  CHECK(peak_local_max(Tensor::full({4, 4}, 3), near).dim(0) == 0);
  CHECK(peak_local_max(Tensor::from<float>({1, 6}, {5, 0, 0, 0, 0, 6}), far).dim(0) == 2);  // one row, 5 columns apart
  Tensor plateau = Tensor::zeros({9, 9});  // both pixels are maxima: spacing keeps the first
  plateau.data<float>()[4 * 9 + 4] = plateau.data<float>()[4 * 9 + 5] = 2;
  CHECK(peak_local_max(plateau, near).dim(0) == 2);
  const Tensor one = peak_local_max(plateau, far);
  REQUIRE(one.dim(0) == 1);
  CHECK(one.data<int32_t>()[1] == 4);
}

TEST_CASE("contours of a line, a pixel, a ring and two pieces") {
  const auto points = [](const std::string& map, ContourPoints kind) { return contours(map_of(map), kind)[0].points; };
  using Points = std::vector<std::array<int32_t, 2>>;
  CHECK(points("... .1. ...", ContourPoints::all) == Points{{1, 1}});
  CHECK(points("111", ContourPoints::all).size() == 4);  // there and back
  CHECK(points("111", ContourPoints::simple).size() == 2);
  CHECK(points("1111 1..1 1111", ContourPoints::all).size() == 10);
  const std::vector<Contour> pieces = contours(map_of("11..1 .2..1 ....1"), ContourPoints::all, ContourParts::every);
  CHECK(pieces.size() == 3);
  CHECK(contours(map_of("11..1 .2..1 ....1")).size() == 2);
  const Contour square{1, {{0, 0}, {3, 0}, {3, 2}, {0, 2}}};
  CHECK(contour_area(square) == 6);
  CHECK(contour_length(square) == 10);
}

TEST_CASE("resizing: Pillow's known answers, label maps, refusals") {
  const Tensor line = Tensor::from<uint8_t>({1, 5}, {0, 50, 100, 200, 255});
  const auto resized = [&](int64_t n) {
    const Tensor y = resize_image(line, 1, n, ResizeMethod::pillow_bilinear);
    return std::vector<uint8_t>(y.data<uint8_t>(), y.data<uint8_t>() + y.size());
  };
  CHECK(resized(8) == std::vector<uint8_t>{0, 22, 53, 84, 131, 194, 231, 255});
  CHECK(resized(3) == std::vector<uint8_t>{21, 111, 231});
  CHECK(resized(2) == std::vector<uint8_t>{52, 188});
  const Tensor block = Tensor::from<uint8_t>({3, 3}, {10, 20, 30, 40, 50, 60, 70, 80, 255});
  const Tensor big = resize_image(block, 4, 5, ResizeMethod::pillow_bilinear);
  const std::vector<uint8_t> want{10, 14, 20, 26, 30, 29, 33, 39, 45, 49, 51, 55, 61, 104, 133, 70, 74, 80, 185, 255};
  CHECK(std::vector<uint8_t>(big.data<uint8_t>(), big.data<uint8_t>() + 20) == want);

  CHECK(text_of(resize_labels(map_of("12 34"), 4, 4)) == "1122 1122 3344 3344");
  CHECK(text_of(resize_labels(map_of("123 456 789"), 1, 1)) == "5");
  // Every smooth method keeps a constant image constant, in every channel, and the identity exact.
  for (const char* name : {"opencv_bilinear", "opencv_area", "pillow_bilinear", "pillow_bicubic", "keras_bilinear"}) {
    const ResizeMethod method = parse_resize_method(name);
    CHECK(name_of(method) == name);
    Tensor x({7, 9, 2});
    for (int64_t i = 0; i < x.size(); ++i) x.data<float>()[i] = i % 2 ? 3.f : -8.f;
    for (const auto& [h, w] : {std::pair{3, 4}, {20, 5}, {1, 1}, {7, 30}, {14, 18}}) {
      const Tensor y = resize_image(x, h, w, method);
      for (int64_t i = 0; i < y.size(); ++i) REQUIRE(y.data<float>()[i] == doctest::Approx(i % 2 ? 3.f : -8.f));
    }
    const Tensor same = resize_image(x, 7, 9, method);
    CHECK(std::memcmp(same.raw(), x.raw(), x.bytes()) == 0);
  }
  CHECK_THROWS_AS(parse_resize_method("bilinear"), UsageError);
  CHECK_THROWS_AS(resize_image(map_of("12"), 1, 4, ResizeMethod::pillow_bilinear), Error);
  CHECK_THROWS_AS(resize_image(Tensor({0, 4}), 2, 2, ResizeMethod::pillow_bilinear), Error);
  CHECK(resize_image(line, 0, 3, ResizeMethod::opencv_area).size() == 0);
}

TEST_CASE("flips and turns of a label map") {
  const Tensor x = map_of("123 456");
  CHECK(text_of(flip_x(x)) == "321 654");
  CHECK(text_of(flip_y(x)) == "456 123");
  CHECK(text_of(rotate_90(x)) == "36 25 14");  // counter-clockwise, as numpy.rot90
  CHECK(text_of(rotate_90(x, 2)) == "654 321");
  CHECK(text_of(rotate_90(x, -1)) == "41 52 63");
  CHECK(text_of(rotate_90(x, 8)) == text_of(x));
  CHECK(text_of(crop(x, 0, 1, 2, 2)) == "23 56");
  CHECK_THROWS_AS(crop(x, 1, 1, 2, 2), Error);
}

TEST_SUITE_END();
