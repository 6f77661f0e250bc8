#pragma once
// Predictions for other programs: a table of cells (CSV) and polygons (GeoJSON, as QuPath reads it).
#include <filesystem>
#include <string>
#include <vector>

#include "data/instance.h"

namespace glia {

// The header line of the table of cells.
std::string cells_csv_header();

// One line per instance of the sample: id, number from 1, class, area and perimeter in pixels, centre and box (x to the right, y
// down), mean intensity over the image's channels (image (H, W, C) or absent: empty), score.
std::string cells_csv_rows(const Sample& sample, const std::vector<std::string>& categories, const Tensor& image);

// A FeatureCollection with one polygon per piece of an instance, in pixel coordinates.
void write_geojson(const std::filesystem::path& path, const Sample& sample, const std::vector<std::string>& categories);

}  // namespace glia
