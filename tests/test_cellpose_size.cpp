// Cellpose's model of the cells' size.
#include <doctest/doctest.h>

#include <cmath>

#include "autograd/tape.h"
#include "data/npy.h"
#include "models/cellpose_size.h"
#include "tensor/error.h"
#include "tests/cellpose_fixture.h"
#include "tests/paths.h"

using namespace glia;
using namespace glia::tests;

TEST_SUITE_BEGIN("cellpose");

TEST_CASE("the size model: windows of images, and what it says to bad input") {
  const NoGrad no_grad;
  CellposeNet net({.base_channels = 4});
  net.initialize(1);
  net.eval();
  const Tensor image = cellpose_normalized(cellpose_channels(elliptic_cells(0).image, 0, 0), {});
  const CellposeSizeWindows windows{.epochs = 3, .side = 64, .batch_size = 2};
  CellposeSizeSamples samples, again;
  for (int64_t i = 0; i < 3; ++i) add_cellpose_size_samples(net, image, 18 + double(i), i, windows, samples);
  CHECK(samples.styles.size() == 9);
  for (size_t i = 0; i < 9; ++i) {
    CHECK(samples.styles[i].size() == 32);
    const double scale = samples.diameters[i] / double(18 + i / 3);
    CHECK(scale >= 0.5);
    CHECK(scale <= 1.5);
  }
  CHECK(samples.diameters[0] != samples.diameters[1]);
  add_cellpose_size_samples(net, image, 18, 0, {.epochs = 3, .side = 64, .batch_size = 3}, again);
  for (size_t i = 0; i < 96; ++i)  // however many go through at once
    CHECK(samples.styles[i / 32][i % 32] == doctest::Approx(again.styles[i / 32][i % 32]).epsilon(1e-4));

  const CellposeSizeModel model = fit_cellpose_size(samples, 12);
  CHECK(cellpose_size_correlation(model, samples) > 0.3);
  CHECK_THROWS_AS(fit_cellpose_size({}, 12), DataError);
  StateDict state = cellpose_size_state(model);
  CHECK(!cellpose_size_of({}, 32, "file"));
  CHECK_THROWS_WITH_AS(cellpose_size_of(state, 64, "file"), doctest::Contains("another cellpose.base_channels"), DataError);
  state["size_model.ymean"] = Tensor::full({1}, std::nan(""), DType::float64);
  CHECK_THROWS_WITH_AS(cellpose_size_of(state, 32, "file"), doctest::Contains("not finite"), DataError);
  state.erase("size_model.ymean");
  CHECK_THROWS_WITH_AS(cellpose_size_of(state, 32, "file"), doctest::Contains("without size_model.ymean"), DataError);
  const TemporaryFolder folder;
  write_npy(folder / "numbers.npy", Tensor::zeros({3}));
  CHECK_THROWS_WITH_AS(read_cellpose_size(folder / "numbers.npy", 32), doctest::Contains("no \"A\" in it"), DataError);
}

TEST_CASE("the diameter of an image by the size model, then by the cells that are found with it") {
  const NoGrad no_grad;
  CellposeSegmenterOptions options = tiny_cellpose();
  options.estimate_diameter = true;
  const auto segmenter = make_cellpose_segmenter(options);
  segmenter->module().initialize(1);
  segmenter->module().eval();
  StateDict state = segmenter->module().state_dict();
  CHECK_THROWS_WITH_AS(segmenter->load(state, "file"), doctest::Contains("no size model in it"), DataError);
  // A network that finds nothing: what the style says counts for the first pass only, the network's own diameter is left.
  for (auto& [name, t] : cellpose_size_state({.A = Tensor::zeros({32}, DType::float64),
                         .smean = Tensor::zeros({32}, DType::float64),
                         .diam_mean = 12,
                         .ymean = std::log(2.0)}))
    state[name] = t;
  state["output.2.weight"].fill(0);
  state["output.2.bias"].fill(-1);
  segmenter->load(state, "file");
  CHECK(segmenter->predict(elliptic_cells(0).image).diameter == 12);
  // One that calls every pixel a cell, with arrows to nowhere: single pixels gather nowhere either.
  state["output.2.bias"].fill(0.5);
  segmenter->load(state, "file");
  CHECK(segmenter->predict(elliptic_cells(0).image).diameter > 0);
}

TEST_SUITE_END();
