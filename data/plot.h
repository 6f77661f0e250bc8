#pragma once
// Line charts: loss curves, a metric against the step. One layout, drawn as SVG text or as a picture.
#include <array>
#include <optional>
#include <string>
#include <vector>

#include "data/draw.h"

namespace glia {

struct Series {
  std::string name{};            // in the legend; empty: none
  std::vector<double> x{}, y{};  // same length; a point that is not finite (or not positive on a log axis) breaks the line
  double smoothing = 0;          // in [0, 1): the line is a moving average with this memory, the raw values are drawn faintly
  bool markers = false;          // a dot at each point: for few
};

struct Plot {
  std::string title{}, x_label{}, y_label{};
  std::vector<Series> series{};
  bool log_y = false;
  std::optional<std::array<double, 2>> x_range{}, y_range{};  // of the axes; absent: what the series need
  int width = 960, height = 540;                              // pixels
};

std::string plot_svg(const Plot& plot);
Tensor plot_picture(const Plot& plot);  // (height, width, 3) uint8

// Where ticks go on an axis from low to high: multiples of 1, 2 or 5 times a power of ten, about `wanted` of them.
std::vector<double> axis_ticks(double low, double high, int wanted);

}  // namespace glia
