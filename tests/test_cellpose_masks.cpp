// Cells from flows, and the file that Cellpose keeps them in.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <set>

#include "data/weights.h"
#include "models/cellpose_seg.h"
#include "tensor/error.h"
#include "tests/cellpose_fixture.h"
#include "tests/same_bits.h"

using namespace glia;
using namespace glia::tests;

namespace {

// What a perfect network says of the labels.
Tensor perfect_maps(const Tensor& labels) {
  const Tensor flow = cellpose_flow_targets(labels);
  Tensor maps({labels.dim(0), labels.dim(1), 3});
  for (int64_t i = 0; i < labels.size(); ++i) {
    maps.data<float>()[3 * i] = 5 * flow.data<float>()[2 * i];
    maps.data<float>()[3 * i + 1] = 5 * flow.data<float>()[2 * i + 1];
    maps.data<float>()[3 * i + 2] = labels.data<int32_t>()[i] > 0 ? 5.0f : -5.0f;
  }
  return maps;
}

int32_t count_of(const Tensor& labels) {
  const auto values = labels.values<int32_t>();
  return *std::max_element(values.begin(), values.end());
}

// The share of pixels at which one label map differs from the other, whose numbers may be others.
double difference(const Tensor& a, const Tensor& b) {
  std::set<std::pair<int32_t, int32_t>> pairs;
  std::vector<int32_t> partner(size_t(count_of(a)) + 1, -1);
  int64_t wrong = 0;
  for (int64_t i = 0; i < a.size(); ++i) {
    const int32_t x = a.data<int32_t>()[i], y = b.data<int32_t>()[i];
    if (partner[size_t(x)] < 0 && (x == 0) == (y == 0)) partner[size_t(x)] = y;
    wrong += partner[size_t(x)] != y;
  }
  return double(wrong) / double(a.size());
}

}  // namespace

TEST_SUITE_BEGIN("cellpose");

TEST_CASE("cells come back from their flows: touching, long, at the edge") {
  const Tensor labels =
      ellipses(90, 160, {{20, 20, 12, 12}, {20, 43, 12, 11}, {60, 80, 5, 70}, {4, 120, 10, 20}, {85, 8, 12, 12}});
  const Tensor maps = perfect_maps(labels);
  const Tensor found = cellpose_masks(maps, {});
  CHECK(count_of(found) == 5);
  CHECK(difference(found, labels) < 0.002);
  // Fifty steps are too few for the ends of the long cell.
  CHECK(difference(cellpose_masks(maps, {.steps = 50}), labels) > 0.005);
  // Arrows that lead elsewhere than the cell's own do not pass.
  Tensor turned = maps.clone();
  for (int64_t i = 0; i < labels.size(); ++i)
    if (labels.data<int32_t>()[i] == 4) std::swap(turned.data<float>()[3 * i], turned.data<float>()[3 * i + 1]);
  CHECK(count_of(cellpose_masks(turned, {.flow_threshold = 0})) >= 5);
  CHECK(count_of(cellpose_masks(turned, {})) == 4);
  // Sizes.
  CHECK(count_of(cellpose_masks(maps, {.min_size = 420})) == 3);
  CHECK(count_of(cellpose_masks(maps, {.max_size_fraction = 0.05})) == 4);
}

TEST_CASE("cells made at another size than the image's are as large as in the image, and small ones are small there") {
  const Tensor labels = ellipses(40, 50, {{12, 12, 9, 8}, {30, 30, 3, 3}});  // the second of 29 pixels
  const Tensor maps = perfect_maps(labels);
  const Tensor enlarged = cellpose_masks(maps, {.min_size = 100}, 80, 100);
  CHECK(enlarged.shape() == Shape{80, 100});
  CHECK(count_of(enlarged) == 2);
  CHECK(count_of(cellpose_masks(maps, {.min_size = 120}, 80, 100)) == 1);
  for (int64_t i = 0; i < enlarged.size(); ++i)
    REQUIRE((enlarged.data<int32_t>()[i] > 0) == (labels.data<int32_t>()[i / 200 * 50 + i % 100 / 2] > 0));
  CHECK(count_of(cellpose_masks(maps, {.min_size = 15}, 20, 25)) == 1);
  CHECK(same_bits(cellpose_masks(maps, {}, 40, 50), cellpose_masks(maps, {})));
}

TEST_CASE("steps go on until the ends of a long cell have arrived") {
  const Tensor labels = ellipses(24, 520, {{12, 260, 5, 250}});
  const Tensor maps = perfect_maps(labels);
  CHECK(difference(cellpose_masks(maps, {.steps = 100}), labels) > 0.01);
  CHECK(difference(cellpose_masks(maps, {}), labels) < 0.002);
}

TEST_CASE("the same cells on the emulated device, whatever its order") {
  const Tensor labels = ellipses(40, 50, {{12, 12, 9, 8}, {12, 29, 8, 8}, {30, 20, 6, 15}});
  const Tensor maps = perfect_maps(labels);
  const Tensor here = cellpose_masks(maps, {.steps = 30});
  const Tensor there = cellpose_masks(maps, {.steps = 30, .device = {DeviceKind::emulated}});
  CHECK(std::memcmp(here.raw(), there.raw(), here.bytes()) == 0);
  CHECK(count_of(here) == 3);
}

TEST_CASE("no cell, one cell, one pixel, two parts, flows of nothing") {
  const Tensor none = Tensor::zeros({20, 24}, DType::int32);
  CHECK(count_of(cellpose_masks(perfect_maps(none), {})) == 0);
  CHECK(longest_arrow(cellpose_flow_targets(none)) == 0);
  CHECK(cellpose_diameter({}) == 0);

  const Tensor one = ellipses(20, 24, {{10, 12, 6, 6}});
  CHECK(count_of(cellpose_masks(perfect_maps(one), {})) == 1);
  CHECK(cellpose_diameter({113, 113, 28}) == doctest::Approx(2 * std::sqrt(113 / 3.14159265)).epsilon(1e-6));

  const Tensor dot = none.clone();
  dot.data<int32_t>()[5 * 24 + 7] = 1;
  CHECK(longest_arrow(cellpose_flow_targets(dot)) == 0);
  CHECK(count_of(cellpose_masks(perfect_maps(dot), {})) == 0);  // smaller than 15 pixels

  // The part without the centre has no arrows, so it stays where it is.
  Tensor parts = ellipses(20, 40, {{10, 9, 6, 6}, {10, 32, 5, 5}});
  for (int32_t& v : parts.values<int32_t>()) v = std::min(v, 1);
  const Tensor flow = cellpose_flow_targets(parts);
  CHECK(std::abs(flow.data<float>()[2 * (10 * 40 + 30) + 1]) == 0);
  CHECK(std::abs(flow.data<float>()[2 * (10 * 40 + 5) + 1]) == doctest::Approx(1));

  Tensor still = perfect_maps(one);
  for (int64_t i = 0; i < one.size(); ++i) still.data<float>()[3 * i] = still.data<float>()[3 * i + 1] = 0;
  CHECK(count_of(cellpose_masks(still, {})) == 0);  // no pixel gathers ten others
}

TEST_CASE("what is not finite is told where") {
  const Tensor maps = perfect_maps(ellipses(20, 24, {{10, 12, 6, 6}})).clone();
  maps.data<float>()[3 * (7 * 24 + 9) + 1] = NAN;
  CHECK_THROWS_WITH_AS(cellpose_masks(maps, {}), doctest::Contains("row 7, column 9"), DataError);
  Tensor image = Tensor::zeros({8, 8, 1});
  image.data<float>()[11] = INFINITY;
  CHECK_THROWS_WITH_AS(cellpose_normalized(image, {}), doctest::Contains("row 1, column 3"), DataError);
  Tensor negative = Tensor::zeros({4, 4}, DType::int32);
  negative.data<int32_t>()[3] = -1;
  CHECK_THROWS_AS(cellpose_flow_targets(negative), DataError);
}

TEST_CASE("_seg.npy is a dict of the masks, their outlines and colours, the flows and what they were made with") {
  const Tensor labels = ellipses(12, 10, {{5, 5, 3, 3}}), maps = perfect_maps(labels);
  const std::string file =
      encode_cellpose_seg({.labels = labels, .maps = maps, .channels = {2, 3}, .image = "a.png", .diameter = 17});
  const Weights read = parse_weights(std::as_bytes(std::span(file)), "a_seg.npy");
  const auto tensor = [&](const char* name) {
    const StoredTensor* found = read.find(name);
    REQUIRE(found);
    return read.load(*found);
  };
  const Tensor masks = tensor("masks"), flows = tensor("flows/4"), logits = tensor("flows/1");
  CHECK(masks.shape() == labels.shape());
  CHECK(flows.shape() == Shape{3, 12, 10});
  for (int64_t i = 0; i < labels.size(); ++i) {
    CHECK(masks.data<int32_t>()[i] == labels.data<int32_t>()[i]);
    for (int64_t k = 0; k < 3; ++k) CHECK(flows.data<float>()[k * 120 + i] == maps.data<float>()[3 * i + k]);
    CHECK(logits.data<uint8_t>()[i] == (labels.data<int32_t>()[i] ? 255 : 0));
  }
  CHECK(tensor("flows/0").shape() == Shape{1, 12, 10, 3});
  CHECK(tensor("flows/2").shape() == Shape{1, 12, 10, 3});
  CHECK(tensor("outlines").data<int32_t>()[2 * 10 + 5] == 1);
  CHECK(tensor("colors").shape() == Shape{1, 3});
  CHECK(tensor("ismanual").size() == 1);
  for (const char* name : {"diameter", "est_diam"}) CHECK(read.scalars.at(name) == Scalar(17.0));
  CHECK(read.scalars.at("chan_choose/1") == Scalar(int64_t{3}));
  CHECK(read.scalars.at("filename") == Scalar(std::string("a.png")));
  // Arrows in a colour for each direction: up is cyan, as Cellpose draws it.
  const Tensor up = Tensor::from<float>({1, 2, 3}, std::vector<float>{-5, 0, 0, 0, 0, 0}), drawn = cellpose_flow_picture(up);
  CHECK(drawn.data<uint8_t>()[0] == 255);
  CHECK(drawn.data<uint8_t>()[1] == 63);
  CHECK(drawn.data<uint8_t>()[3] == 0);
  const Tensor outlines = cellpose_outlines(labels);
  CHECK(outlines.data<uint8_t>()[5 * 10 + 5] == 0);
  CHECK(outlines.data<uint8_t>()[2 * 10 + 5] == 1);
}

TEST_SUITE_END();
