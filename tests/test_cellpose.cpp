// Cellpose as a system: training that repeats to the bit, cells from flows, tiles, and what it says to bad input.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <set>

#include "autograd/tape.h"
#include "data/npy.h"
#include "data/rle.h"
#include "data/weights.h"
#include "models/cellpose_seg.h"
#include "models/cellpose_segmenter.h"
#include "models/cellpose_size.h"
#include "tensor/error.h"
#include "tensor/parallel.h"
#include "tensor/random.h"
#include "tests/paths.h"
#include "tests/same_bits.h"
#include "train/trainer.h"

using namespace glia;
using tests::same_bits;

namespace {

// Labels (H, W) of ellipses: centre y, x, radii y, x.
Tensor ellipses(int64_t height, int64_t width, const std::vector<std::array<double, 4>>& cells) {
  Tensor labels = Tensor::zeros({height, width}, DType::int32);
  for (size_t k = 0; k < cells.size(); ++k)
    for (int64_t i = 0; i < height * width; ++i)
      if (std::hypot((double(i / width) - cells[k][0]) / cells[k][2], (double(i % width) - cells[k][1]) / cells[k][3]) <= 1)
        labels.data<int32_t>()[i] = static_cast<int32_t>(k) + 1;
  return labels;
}

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

double longest_arrow(const Tensor& flow) {
  double longest = 0;
  for (int64_t i = 0; i < flow.size(); i += 2)
    longest = std::max(longest, std::hypot(double(flow.data<float>()[i]), double(flow.data<float>()[i + 1])));
  return longest;
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

CellposeSegmenterOptions tiny() {
  CellposeSegmenterOptions o;
  o.network.base_channels = 4;
  o.diam_mean = 12;
  o.augment.crop = {48, 48};
  o.tiling.tile = 64;
  return o;
}

Example cells(int64_t index, int64_t height = 64, int64_t width = 80) {
  Example e;
  e.labels = ellipses(height, width, {{18, 20, 9, 9}, {40, 24, 8, 12}, {30, 58 - double(index), 12, 8}});
  e.image = Tensor({height, width, 1}, DType::uint8);
  const Philox random(5, static_cast<uint64_t>(index));
  for (int64_t i = 0; i < e.image.size(); ++i)
    e.image.data<uint8_t>()[i] =
        static_cast<uint8_t>(random.uniform(uint64_t(i), 0, 40) + (e.labels.data<int32_t>()[i] ? 150 : 20));
  e.categories = {0, 0, 0};
  e.index = index;
  e.id = fmt::format("cells{}", index);
  return e;
}

Loader cells_loader(const Segmenter& segmenter, int workers = 0) {
  LoaderOptions options;
  options.batch_size = 2;
  options.workers = workers;
  options.seed = 4;
  options.endless = true;
  options.augmenter = segmenter.augmenter();
  options.prepare = [&segmenter](std::span<const Example> examples) { return segmenter.collate(examples); };
  return Loader(
      3, [&segmenter](int64_t i) { return segmenter.fit(cells(i)); }, options);
}

TrainerOptions sgd() {
  TrainerOptions o;
  o.optimizer = {.kind = OptimizerKind::sgd, .momentum = 0.9, .weight_decay = 1e-5, .weight_decay_norm = 1e-5};
  o.schedule.lr = 0.05;
  o.seed = 3;
  return o;
}

struct Training {
  std::unique_ptr<Segmenter> segmenter = initialized();
  Loader loader = cells_loader(*segmenter);
  Trainer trainer{segmenter->module(), [this](const Batch& batch) { return segmenter->losses(batch.tensors); }, loader, sgd()};

  static std::unique_ptr<Segmenter> initialized() {
    auto made = make_cellpose_segmenter(tiny());
    made->module().initialize(7);
    return made;
  }
  std::vector<StepRecord> steps(int count) {
    std::vector<StepRecord> records;
    for (int i = 0; i < count; ++i) records.push_back(trainer.step());
    return records;
  }
};

}  // namespace

TEST_SUITE_BEGIN("cellpose");

TEST_CASE("the losses fall over 30 steps, each by its name") {
  Training training;
  const std::vector<StepRecord> records = training.steps(30);
  CHECK(records[0].terms.size() == 2);
  CHECK(records[0].terms[0].first == "flow");
  double start = 0, end = 0;
  for (size_t i = 0; i < 5; ++i) {
    start += records[i].loss;
    end += records[25 + i].loss;
  }
  CAPTURE(start);
  CHECK(end < 0.7 * start);
}

TEST_CASE("the same bits with one thread and two, with workers, and after a break") {
  const int before = num_threads();
  set_num_threads(1);
  Training whole;
  whole.steps(4);
  set_num_threads(2);
  Training two;
  two.loader = cells_loader(*two.segmenter, 2);
  two.steps(2);
  Checkpoint saved;
  two.trainer.save(saved);
  two.steps(2);
  Training resumed;
  resumed.trainer.load(saved, "saved");
  resumed.steps(2);
  set_num_threads(before);
  CHECK(same_bits(whole.segmenter->module().state_dict(), two.segmenter->module().state_dict()));
  CHECK(same_bits(two.segmenter->module().state_dict(), resumed.segmenter->module().state_dict()));
}

TEST_CASE("a batch: windows at the network's diameter, flows times 5, cell or not") {
  const auto segmenter = make_cellpose_segmenter(tiny());
  Example example = segmenter->fit(cells(0));
  CHECK(example.image.shape() == Shape{64, 80, 4});
  segmenter->augmenter()(example, 1, 0, 0);
  const std::vector<Tensor> batch = segmenter->collate({&example, 1});
  REQUIRE(batch.size() == 3);
  CHECK(batch[0].shape() == Shape{1, 48, 48, 2});
  CHECK(batch[1].shape() == Shape{1, 48, 48, 2});
  CHECK(batch[2].shape() == Shape{1, 48, 48, 1});
  for (int64_t i = 0; i < 48 * 48; ++i) CHECK(batch[0].data<float>()[2 * i + 1] == 0);  // no nuclei
  CHECK(longest_arrow(batch[1]) == doctest::Approx(5).epsilon(0.05));
}

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

TEST_CASE("images: which channels, which diameter") {
  const Tensor colour = Tensor::from<uint8_t>({1, 1, 3}, std::vector<uint8_t>{30, 60, 90});
  const Tensor gray = cellpose_channels(colour, 0, 0), two = cellpose_channels(colour, 2, 3);
  CHECK(gray.data<float>()[0] == doctest::Approx(60));
  CHECK(gray.data<float>()[1] == 0);
  CHECK(two.data<float>()[0] == 60);
  CHECK(two.data<float>()[1] == 90);
  const Tensor flat = Tensor::from<uint8_t>({1, 1, 1}, std::vector<uint8_t>{7});
  CHECK(cellpose_channels(flat, 2, 3).data<float>()[0] == 7);
  CHECK_THROWS_AS(cellpose_channels(Tensor::zeros({2, 2, 5}, DType::uint8), 6, 0), DataError);

  const NoGrad no_grad;
  CellposeSegmenterOptions options = tiny();
  options.diameter = 100;
  const auto segmenter = make_cellpose_segmenter(options);
  segmenter->module().initialize(1);
  segmenter->module().eval();
  CHECK_THROWS_WITH_AS(segmenter->predict(cells(0).image), doctest::Contains("larger than the image"), UsageError);

  // A constant image, and one smaller than a tile.
  const auto plain = make_cellpose_segmenter(tiny());
  plain->module().initialize(1);
  plain->module().eval();
  for (const int64_t side : {5, 90}) {
    const Prediction p = plain->predict(Tensor::full({side, 33, 1}, 200, DType::uint8));
    CHECK(p.foreground.shape() == Shape{side, 33});
  }
}

TEST_CASE("the diameter of training images goes into the network's file") {
  const auto segmenter = make_cellpose_segmenter(tiny());
  Dataset data;
  for (int64_t i = 0; i < 2; ++i) {
    Sample sample;
    for (Rle& mask : masks_of_labels(cells(i).labels)) sample.instances.push_back({.mask = std::move(mask)});
    data.samples.push_back(std::move(sample));
  }
  segmenter->study(data);
  const StateDict state = segmenter->module().state_dict();
  CHECK(state.at("diam_labels").item() == doctest::Approx(19.6).epsilon(0.02));
  CHECK(state.at("diam_mean").item() == 12);
}

TEST_CASE("tiles make up the whole, at any size, and rows come once and in order") {
  for (const auto& [height, width] : {std::pair<int64_t, int64_t>{50, 70}, {129, 40}, {16, 300}, {1, 1}}) {
    Tensor x({height, width, 3});
    for (int64_t i = 0; i < x.size(); ++i) x.data<float>()[i] = std::sin(0.01f * float(i % 997)) + 2;
    const auto network = [](const Tensor& tiles) { return tiles; };
    int64_t next = 0;
    cellpose_run(x, 1, {.tile = 48}, network, [&](int64_t first, const Tensor& rows) {
      CHECK(first == next);
      CHECK(rows.dim(1) == width);
      next += rows.dim(0);
      for (int64_t i = 0; i < rows.size(); ++i)
        if (std::abs(rows.data<float>()[i] - x.data<float>()[first * width * 3 + i]) > 1e-5) FAIL("differs at ", i);
    });
    CHECK(next == height);
    const Tensor back = cellpose_maps_resampled(x, 2, {.tile = 48}, network);
    CHECK(back.shape() == x.shape());
  }
}

TEST_CASE("a whole image through the network is the same with any number of threads") {
  const NoGrad no_grad;
  const int before = num_threads();
  const auto predict = [&](int threads) {
    set_num_threads(threads);
    CellposeSegmenterOptions options = tiny();
    options.tiling.tile = 48;
    const auto segmenter = make_cellpose_segmenter(options);
    segmenter->module().initialize(1);
    segmenter->module().eval();
    return segmenter->predict(cells(0, 100, 140).image).foreground;
  };
  const Tensor want = predict(1);
  for (const int threads : {2, 3}) {
    const Tensor got = predict(threads);
    CHECK(std::memcmp(got.raw(), want.raw(), want.bytes()) == 0);
  }
  set_num_threads(before);
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

TEST_CASE("the size model: windows of images, and what it says to bad input") {
  const NoGrad no_grad;
  CellposeNet net({.base_channels = 4});
  net.initialize(1);
  net.eval();
  const Tensor image = cellpose_normalized(cellpose_channels(cells(0).image, 0, 0), {});
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
  const tests::TemporaryFolder folder;
  write_npy(folder / "numbers.npy", Tensor::zeros({3}));
  CHECK_THROWS_WITH_AS(read_cellpose_size(folder / "numbers.npy", 32), doctest::Contains("no \"A\" in it"), DataError);
}

TEST_CASE("the diameter of an image by the size model, then by the cells that are found with it") {
  const NoGrad no_grad;
  CellposeSegmenterOptions options = tiny();
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
  CHECK(segmenter->predict(cells(0).image).diameter == 12);
  // One that calls every pixel a cell, with arrows to nowhere: single pixels gather nowhere either.
  state["output.2.bias"].fill(0.5);
  segmenter->load(state, "file");
  CHECK(segmenter->predict(cells(0).image).diameter > 0);
}

TEST_SUITE_END();
