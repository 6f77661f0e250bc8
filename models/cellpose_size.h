#pragma once
// Cellpose's size model: how large the cells of an image are, from the style that the network gives it. A ridge regression of the
// logarithm of the diameter, fitted after the network was trained (Cellpose 3: train.train_size, models.SizeModel).
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "models/cellpose.h"

namespace glia {

// Of styles of S numbers.
struct CellposeSizeModel {
  Tensor A, smean;       // (S) float64: coefficients, and the mean of the styles it was fitted to
  double diam_mean = 0;  // what the network sees cells at, in pixels
  double ymean = 0;      // the mean of log(diameter / diam_mean)

  // In pixels of the image that the style is of, which was seen at its own size: exp(A (style - smean) + ymean) diam_mean, at
  // least 5 (diam_mean where that is no number). style (S).
  double diameter(const std::vector<double>& style) const;
};

// What it is fitted to: styles of windows, and the diameters that cells have in them.
struct CellposeSizeSamples {
  std::vector<std::vector<double>> styles;  // S numbers each
  std::vector<double> diameters;            // in pixels
};

struct CellposeSizeWindows {  // as Cellpose draws them
  int64_t epochs = 10;        // windows of each image
  int64_t side = 512;         // a multiple of 8
  double scale_range = 1;     // cells are scaled by 1 - r/2 to 1 + r/2
  int64_t batch_size = 5;     // windows that go through the network at once
  uint64_t seed = 0;
};

// Adds windows of one image, turned by any angle and scaled at random (data/cellpose_augment.h; a pure function of seed, epoch and index).
// image (H, W, 2) float32, normalised; `diameter` of its cells in pixels. Eval mode and NoGrad are the caller's.
void add_cellpose_size_samples(CellposeNet& net, const Tensor& image, double diameter, int64_t index,
                               const CellposeSizeWindows& how, CellposeSizeSamples& to);

// A = (X X' + I)^-1 X y over the samples' deviations from their means. DataError without samples, or for numbers that are not finite.
CellposeSizeModel fit_cellpose_size(const CellposeSizeSamples& samples, double diam_mean);

// Correlation of log diameters with what the model says of the same samples; 0 where either does not vary.
double cellpose_size_correlation(const CellposeSizeModel& model, const CellposeSizeSamples& samples);

// Beside a network's weights in a checkpoint: size_model.A, .smean, .diam_mean, .ymean. cellpose_size_of: nothing where `state` has none
// of them; DataError where they are incomplete or do not fit a style of `channels` numbers.
StateDict cellpose_size_state(const CellposeSizeModel& model);
std::optional<CellposeSizeModel> cellpose_size_of(const StateDict& state, int64_t channels, std::string_view source);
bool is_cellpose_size(std::string_view tensor_name);

// Cellpose's own files, size_*.npy and MODEL_size.npy: a dict of A, smean, diam_mean, ymean. DataError for anything else; IoError.
CellposeSizeModel read_cellpose_size(const std::filesystem::path& file, int64_t channels);
std::string encode_cellpose_size(const CellposeSizeModel& model);

}  // namespace glia
