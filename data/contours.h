#pragma once
// Outlines of labels, as OpenCV's findContours traces outer borders (Suzuki and Abe 1985): through the centres of the border
// pixels, 8-connected. A line of one pixel's width is walked there and back.
#include <array>
#include <span>
#include <vector>

#include "data/instance.h"

namespace glia {

struct Contour {
  int32_t label = 0;
  std::vector<std::array<int32_t, 2>> points;  // x, y; closed: the last is next to the first
};

enum class ContourPoints { all, simple };    // simple: only where the direction changes (CHAIN_APPROX_SIMPLE)
enum class ContourParts { longest, every };  // of a label in several pieces: the one with most points, or each

// Outer borders of all labels of a map (H, W) int32, by ascending label; pieces in raster order. Holes are not outlined.
std::vector<Contour> contours(const Tensor& labels, ContourPoints points = ContourPoints::all,
                              ContourParts parts = ContourParts::longest);
// The same of one mask, without a label map of the image: for overlapping instances.
std::vector<Contour> contours(const Rle& mask, ContourPoints points = ContourPoints::all,
                              ContourParts parts = ContourParts::longest);

double contour_area(const Contour& contour);    // of the polygon through the points
double contour_length(const Contour& contour);  // closed

}  // namespace glia
