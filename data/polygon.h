#pragma once
// Polygons to masks, exactly as pycocotools (cocoapi's rleFrPoly): edges are drawn on a grid five times as fine, and a pixel is
// inside when its centre column's crossings say so.
#include <span>
#include <vector>

#include "data/instance.h"

namespace glia {

using Polygon = std::vector<double>;  // x0, y0, x1, y1, ... in pixels; the corner of the image is (0, 0)

// Throws DataError for fewer than three points, an odd number of values, NaN or infinite values, or an outline longer than
// 10 million pixels.
Rle rle_from_polygon(std::span<const double> xy, int64_t height, int64_t width);
Rle rle_from_polygons(std::span<const Polygon> polygons, int64_t height, int64_t width);  // their union; no polygons: empty
Rle rle_from_box(const Box& box, int64_t height, int64_t width);

double polygon_area(std::span<const double> xy);  // by the shoelace formula, not negative

}  // namespace glia
