#pragma once
// Reads a whole data set, pixels too, and says what is wrong with it and what is in it: the command check-data.
#include <array>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "data/dataset.h"

namespace glia {

// Five numbers and the mean of a list of values; all 0 for an empty list.
struct Spread {
  double min = 0, p25 = 0, median = 0, p75 = 0, max = 0, mean = 0;
};
Spread spread_of(std::vector<double> values);

struct ClassFacts {
  std::string name;
  int64_t images = 0;  // with at least one instance of the class
  int64_t instances = 0;
  Spread area;  // pixels
};

struct DataReport {
  std::string path, layout;
  std::vector<Fault> faults;
  int64_t images = 0, instances = 0, crowds = 0, negatives = 0;  // negatives: images without instances
  std::vector<ClassFacts> classes;
  Spread per_image;                       // instances per image
  Spread area, diameter;                  // of instances: pixels, and diameter of the disk of that area
  Spread foreground;                      // covered fraction of an image
  std::map<std::string, int64_t> sizes;   // "520 x 704" (height x width): images
  std::map<std::string, int64_t> pixels;  // "8 bit unsigned, 1 channel": images
  int64_t overlapping_pixels = 0, overlapping_instances = 0;
  double mean_value = 0, deviation = 0;  // of all pixels

  bool stops() const;  // a training would not start: exit code 3
  ExitCode exit_code() const { return stops() ? ExitCode::data : ExitCode::ok; }
};

// Faults beyond open_dataset's, found in the pixels: unreadable or non-finite (stop), constant (warn), equal pictures under two names
// (warn: they may end up on both sides of a split), instances that overlap (warn), empty ones (drop). DataError of
// open_dataset are thrown. Parallel; one decoded image per thread in memory.
DataReport check_data(const std::filesystem::path& path, const DatasetOptions& options = {});

std::string to_text(const DataReport& report);  // a table for people, closing with the verdict
std::string to_json(const DataReport& report);

// Pairs of samples (of `a`, of `b`) that are the same picture, by content: the leak between training and --val data.
std::vector<std::array<std::string, 2>> equal_pictures(const Dataset& a, const Dataset& b);

}  // namespace glia
