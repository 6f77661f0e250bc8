// Cellpose as a system: training that repeats to the bit, batches, images, tiles, and what it says to bad input.
#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
#include <tuple>

#include "autograd/tape.h"
#include "data/rle.h"
#include "models/cellpose_size.h"
#include "tensor/error.h"
#include "tensor/parallel.h"
#include "tests/cellpose_fixture.h"
#include "tests/same_bits.h"
#include "train/trainer.h"

using namespace glia;
using namespace glia::tests;

namespace {

Loader cells_loader(const Segmenter& segmenter, int workers = 0) {
  LoaderOptions options;
  options.batch_size = 2;
  options.workers = workers;
  options.seed = 4;
  options.endless = true;
  options.augmenter = segmenter.augmenter();
  options.prepare = [&segmenter](std::span<const Example> examples) { return segmenter.collate(examples); };
  return Loader(
      3, [&segmenter](int64_t i) { return segmenter.fit(elliptic_cells(i)); }, options);
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
    auto made = make_cellpose_segmenter(tiny_cellpose());
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

TEST_CASE("a little training finds the cells; their scores are mean probabilities, their diameter counts, not the style's") {
  CellposeSegmenterOptions options = tiny_cellpose();
  Training training;
  training.steps(120);
  StateDict state = training.segmenter->module().state_dict();
  state["diam_labels"].fill(19.6F);  // as study() says
  for (const auto& [name, t] : cellpose_size_state({.A = Tensor::zeros({32}, DType::float64),
                               .smean = Tensor::zeros({32}, DType::float64),
                               .diam_mean = 12,
                               .ymean = std::log(2.0)}))
    state[name] = t;
  const NoGrad no_grad;
  const Example example = elliptic_cells(0);
  for (const auto& [given, estimate, least, most] :
       {std::tuple{0.0, false, 19.6 - 1e-4, 19.6 + 1e-4}, {17.0, false, 17.0, 17.0}, {0.0, true, 17.0, 22.0}}) {
    options.diameter = given;
    options.estimate_diameter = estimate;
    const auto segmenter = make_cellpose_segmenter(options);
    segmenter->load(state, "training");
    segmenter->module().eval();
    const Prediction found = segmenter->predict(example.image);
    INFO("diameter ", found.diameter, ", ", found.instances.size(), " cells");
    CHECK(found.diameter >= least);
    CHECK(found.diameter <= most);
    CHECK(found.instances.size() == 3);
    for (const Instance& cell : found.instances) {
      const Tensor mask = decode_mask(cell.mask);
      double sum = 0, pixels = 0;
      for (int64_t i = 0; i < mask.size(); ++i) {
        if (mask.data<uint8_t>()[i] == 0) continue;
        sum += double(found.foreground.data<float>()[i]);
        ++pixels;
      }
      CHECK(cell.score == doctest::Approx(sum / pixels));
    }
  }
}

TEST_CASE("the same bits with 1, 2 and 8 threads, with workers, and after a break") {
  const int before = num_threads();
  set_num_threads(1);
  Training whole;
  whole.steps(4);
  for (const int threads : {2, 8}) {
    INFO(threads, " threads");
    set_num_threads(threads);
    Training other;
    other.loader = cells_loader(*other.segmenter, 2);
    other.steps(2);
    Checkpoint saved;
    other.trainer.save(saved);
    other.steps(2);
    Training resumed;
    resumed.trainer.load(saved, "saved");
    resumed.steps(2);
    CHECK(same_bits(whole.segmenter->module().state_dict(), other.segmenter->module().state_dict()));
    CHECK(same_bits(other.segmenter->module().state_dict(), resumed.segmenter->module().state_dict()));
  }
  set_num_threads(before);
}

TEST_CASE("in evaluation eight batch norms are part of the convolution before them, and the maps are the same") {
  struct Norms : OpObserver {
    int count = 0;
    void after_forward(const char* op, std::span<const Tensor>, const Tensor&) override {
      count += op == std::string("batch_norm");
    }
    void after_backward(const Node&, std::span<const Tensor>) override {}
  };
  CellposeNet net({.in_channels = 2, .base_channels = 4});
  net.initialize(5);
  Random random(9);
  const auto draw = [&](const Tensor& t, double low) {
    for (float& v : t.values<float>()) v = static_cast<float>(random.uniform(low, 1.5));
  };
  for (const NamedTensor& t : net.parameters())
    if (t.tensor->rank() == 1) draw(*t.tensor, 0.5);
  for (const NamedTensor& t : net.buffers())
    if (t.name.find("running") != std::string::npos) draw(*t.tensor, 0.5);
  net.eval();
  const Tensor image({2, 32, 40, 2});
  draw(image, -1.5);
  const auto maps = [&](int norms) {
    const Norms seen;
    const Tensor y = net(image).maps.detach();
    CHECK(seen.count == norms);
    return y;
  };
  const Tensor apart = maps(41);
  const NoGrad no_grad;
  const Tensor folded = maps(33);
  double squares = 0, errors = 0;
  for (int64_t i = 0; i < apart.size(); ++i) {
    const double want = double(apart.data<float>()[i]), e = double(folded.data<float>()[i]) - want;
    squares += want * want;
    errors += e * e;
  }
  CHECK(squares > 0);
  CHECK(std::sqrt(errors / squares) < 1e-5);
}

TEST_CASE("a batch: windows at the network's diameter, flows times 5, cell or not") {
  const auto segmenter = make_cellpose_segmenter(tiny_cellpose());
  Example example = segmenter->fit(elliptic_cells(0));
  CHECK(example.image.shape() == Shape{64, 80, 4});
  segmenter->augmenter()(example, 1, 0, 0);
  const std::vector<Tensor> batch = segmenter->collate({&example, 1});
  REQUIRE(batch.size() == 3);
  CHECK(batch[0].shape() == Shape{1, 48, 48, 2});
  CHECK(batch[1].shape() == Shape{1, 48, 48, 2});
  CHECK(batch[2].shape() == Shape{1, 48, 48, 1});
  for (int64_t i = 0; i < 48 * 48; ++i) CHECK(batch[0].data<float>()[2 * i + 1] == 0);  // no nuclei
  CHECK(longest_arrow(batch[1]) == doctest::Approx(5).epsilon(0.05));

  CellposeSegmenterOptions options = tiny_cellpose();
  options.augment = {.crop = {128, 128}, .scale_range = 0};
  for (const double diameter : {12.0, 30.0}) {
    options.diam_mean = diameter;
    const auto scaling = make_cellpose_segmenter(options);
    Example scaled = scaling->fit(elliptic_cells(0));
    CHECK(cellpose_training_diameter(scaled.labels) == doctest::Approx(19.6).epsilon(0.01));
    scaling->augmenter()(scaled, 1, 0, 0);
    CHECK(cellpose_training_diameter(scaled.labels) == doctest::Approx(diameter).epsilon(0.03));
  }
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
  CellposeSegmenterOptions options = tiny_cellpose();
  options.diameter = 100;
  const auto segmenter = make_cellpose_segmenter(options);
  segmenter->module().initialize(1);
  segmenter->module().eval();
  CHECK_THROWS_WITH_AS(segmenter->predict(elliptic_cells(0).image), doctest::Contains("larger than the image"), UsageError);

  // A constant image, and one smaller than a tile.
  const auto plain = make_cellpose_segmenter(tiny_cellpose());
  plain->module().initialize(1);
  plain->module().eval();
  for (const int64_t side : {5, 90}) {
    const Prediction p = plain->predict(Tensor::full({side, 33, 1}, 200, DType::uint8));
    CHECK(p.foreground.shape() == Shape{side, 33});
  }
}

TEST_CASE("the diameter of training images goes into the network's file") {
  const auto segmenter = make_cellpose_segmenter(tiny_cellpose());
  Dataset data;
  for (int64_t i = 0; i < 2; ++i) {
    Sample sample;
    for (Rle& mask : masks_of_labels(elliptic_cells(i).labels)) sample.instances.push_back({.mask = std::move(mask)});
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
    CellposeSegmenterOptions options = tiny_cellpose();
    options.tiling.tile = 48;
    const auto segmenter = make_cellpose_segmenter(options);
    segmenter->module().initialize(1);
    segmenter->module().eval();
    return segmenter->predict(elliptic_cells(0, 100, 140).image).foreground;
  };
  const Tensor want = predict(1);
  for (const int threads : {2, 3}) {
    const Tensor got = predict(threads);
    CHECK(std::memcmp(got.raw(), want.raw(), want.bytes()) == 0);
  }
  set_num_threads(before);
}

TEST_SUITE_END();
