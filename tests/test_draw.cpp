// Pictures and charts: what is painted where; how they look is for eyes.
#include <doctest/doctest.h>

#include <cmath>
#include <set>

#include "data/font.h"
#include "data/plot.h"
#include "data/polygon.h"

using namespace glia;

namespace {

Tensor blank(int64_t h, int64_t w) { return Tensor::zeros({h, w, 3}, DType::uint8); }

Color at(const Tensor& picture, int64_t x, int64_t y) {
  const uint8_t* p = picture.data<uint8_t>() + (y * picture.dim(1) + x) * 3;
  return {p[0], p[1], p[2]};
}

int64_t painted(const Tensor& picture, Color color) {
  int64_t n = 0;
  for (int64_t y = 0; y < picture.dim(0); ++y)
    for (int64_t x = 0; x < picture.dim(1); ++x) n += at(picture, x, y) == color;
  return n;
}

bool has_nan(const std::string& svg) { return svg.find("\"nan") != std::string::npos || svg.find("nan,") != std::string::npos; }

Instance square(double x, double y, double side) {
  Instance i;
  i.mask = rle_from_box({x, y, side, side}, 20, 30);
  return i;
}

}  // namespace

TEST_SUITE_BEGIN("data");

TEST_CASE("every character has its own glyph inside the cell") {
  std::set<std::array<uint8_t, glyph_height>> seen;
  for (char c = 32; c < 127; ++c) {
    seen.insert(glyph(c));
    for (const uint8_t row : glyph(c)) CHECK(row < 32);
  }
  CHECK(seen.size() == 95);
  CHECK(glyph('\t') == glyph(char(200)));  // the box for unknown ones
}

TEST_CASE("text: size, fitting, clipping") {
  CHECK(text_size("ab\nabc").width == 17);
  CHECK(text_size("ab\nabc").height == 19);
  CHECK(fit_text("a long caption", 60) == "a long...");
  CHECK(fit_text("short", 60) == "short");
  const Tensor picture = blank(12, 12);
  draw_text(picture, 1, 1, "-", colors::white);
  CHECK(painted(picture, colors::white) == 3);
  CHECK(at(picture, 2, 4) == colors::white);
  draw_text(picture, -100, 8, "outside on both sides of the picture", colors::white, 3);  // must not write outside
}

TEST_CASE("outlines and fills of masks") {
  const Tensor picture = blank(20, 30);
  draw_mask(picture, square(5, 6, 8).mask, {200, 0, 0}, {.thickness = 2, .opacity = 1, .fill = 0.5});
  CHECK(painted(picture, {200, 0, 0}) == 64 - 16);
  CHECK(painted(picture, {100, 0, 0}) == 16);
  CHECK(at(picture, 5, 6) == Color{200, 0, 0});
  CHECK(at(picture, 4, 6) == colors::black);
  draw_mask(picture, square(0, 0, 0.1).mask, colors::white);  // an empty mask
  CHECK(painted(picture, colors::white) == 0);
  CHECK_THROWS_AS(draw_mask(blank(3, 3), square(1, 1, 2).mask, colors::white), Error);
}

TEST_CASE("matches in three colours") {
  const std::vector<Instance> truth{square(1, 1, 5), square(20, 1, 5)}, predicted{square(1, 1, 5), square(10, 10, 5)};
  const std::vector<int32_t> prediction_of{0, -1}, truth_of{0, -1};
  const Tensor p = overlay_matches(Tensor::zeros({20, 30}, DType::uint8), truth, predicted, prediction_of, truth_of, {});
  CHECK(at(p, 1, 1) == colors::true_positive);
  CHECK(at(p, 20, 1) == colors::false_negative);
  CHECK(at(p, 10, 10) == colors::false_positive);
  CHECK(painted(p, colors::true_positive) == 16);
  const Tensor twice = overlay(Tensor::zeros({20, 30}, DType::uint8), truth, {}, 2);
  CHECK(twice.shape() == Shape{40, 60, 3});
  CHECK(at(twice, 2, 2) == distinct_color(0));
}

TEST_CASE("neighbouring colours differ") {
  for (int64_t i = 0; i < 50; ++i) {
    const Color a = distinct_color(i), b = distinct_color(i + 1);
    CHECK(std::abs(a.r - b.r) + std::abs(a.g - b.g) + std::abs(a.b - b.b) > 80);
  }
}

TEST_CASE("any image becomes a picture") {
  Tensor deep({2, 3}, DType::int32);
  for (int64_t i = 0; i < 6; ++i) deep.data<int32_t>()[i] = int32_t(10'000 + 100 * i);
  const Tensor p = to_picture(deep);
  CHECK(p.shape() == Shape{2, 3, 3});
  CHECK(at(p, 0, 0) == colors::black);
  CHECK(at(p, 2, 1) == colors::white);
  CHECK(painted(to_picture(Tensor::full({2, 2}, NAN)), colors::black) == 4);
  const Tensor endless = Tensor::from<float>({1, 4}, {0, 1, 2, INFINITY});  // what is not finite does not set the range
  CHECK(at(to_picture(endless), 2, 0) == colors::white);
  CHECK(to_picture(Tensor::zeros({4, 5, 4}, DType::uint8)).shape() == Shape{4, 5, 3});
}

TEST_CASE("mosaics hold their panels") {
  const Tensor red = blank(10, 20);
  fill_rectangle(red, 0, 0, 20, 10, {255, 0, 0});
  const std::vector<Panel> panels{{red, "one"}, {red, "two"}, {red, "three"}};
  const MosaicStyle style{.columns = 2, .panel_height = 10, .panel_width = 20, .gap = 4, .text_scale = 1};
  const Tensor m = mosaic(panels, style);
  CHECK(m.shape() == Shape{3 * 4 + 2 * (10 + 12), 3 * 4 + 2 * 20, 3});
  CHECK(painted(m, {255, 0, 0}) == 3 * 200);
  CHECK(mosaic({}).dim(0) > 0);
  CHECK(scale_to_fit(red, 5, 100).shape() == Shape{5, 10, 3});
  CHECK(scale_to_fit(red, 35, 100).shape() == Shape{30, 60, 3});
}

TEST_CASE("axis ticks are round numbers") {
  CHECK(axis_ticks(0, 1, 5).size() == 6);
  CHECK(axis_ticks(0, 97, 5) == std::vector<double>{0, 20, 40, 60, 80});
  CHECK(axis_ticks(-3, 3, 3) == std::vector<double>{-2, 0, 2});
  CHECK(axis_ticks(5, 5, 4) == std::vector<double>{5});
  CHECK(axis_ticks(0, INFINITY, 4).size() == 1);
}

TEST_CASE("charts: both canvases, gaps, odd values") {
  Plot plot{
      .title = "a < b & c", .x_label = "step", .y_label = "loss", .series = {{"train", {0, 1, 2, 3, 4}, {4, 3, NAN, 2, 1}}}};
  const std::string svg = plot_svg(plot);
  CHECK(svg.find("a &lt; b &amp; c") != std::string::npos);
  size_t lines = 0;
  for (size_t p = svg.find("<polyline"); p != std::string::npos; p = svg.find("<polyline", p + 1)) ++lines;
  CHECK(lines == 2);  // the NaN breaks the line
  const Tensor picture = plot_picture(plot);
  CHECK(picture.shape() == Shape{540, 960, 3});
  CHECK(painted(picture, {0, 114, 178}) > 500);
  plot.log_y = true;
  plot.series[0].y = {1, 0, -1, 1e-3, 1e3};  // not positive: left out
  CHECK_FALSE(has_nan(plot_svg(plot)));
  for (Plot odd : {Plot{}, Plot{.series = {{"one point", {1}, {2}}}}, Plot{.series = {{"flat", {1, 2}, {0, 0}}}},
                   Plot{.series = {{"uneven", {1, 2, 3}, {1, 2}}}}, Plot{.series = {{"nan", {NAN}, {NAN}}}, .log_y = true}}) {
    odd.width = 200;
    odd.height = 120;
    CHECK(plot_picture(odd).dim(0) == 120);
    CHECK_FALSE(has_nan(plot_svg(odd)));
  }
}

TEST_SUITE_END();
