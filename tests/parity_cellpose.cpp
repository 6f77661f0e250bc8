// Cellpose 3.1: its network (values, gradients, training steps, whole images by tiles), its image operations and its dynamics.
#include <doctest/doctest.h>

#include <cmath>
#include <numeric>

#include "autograd/operators.h"
#include "data/atomic_file.h"
#include "data/cellpose_augment.h"
#include "kernels/flow.h"
#include "models/cellpose.h"
#include "models/cellpose_dynamics.h"
#include "models/cellpose_image.h"
#include "models/cellpose_seg.h"
#include "models/cellpose_size.h"
#include "models/image_input.h"
#include "nn/optimizer.h"
#include "tests/formula_weights.h"
#include "tests/parity.h"
#include "tests/paths.h"
#include "train/metrics.h"

namespace glia::tests {
namespace {

const Axes to_hwc{1, 2, 0}, to_chw{2, 0, 1};

void load_formula_weights(const ParityCase& c, Module& net) {
  StateDict state;
  for (const auto& w : c.description()["weights"].GetArray()) {
    std::vector<int64_t> dims;
    for (const auto& d : w[1].GetArray()) dims.push_back(d.GetInt64());
    const auto seed = static_cast<uint64_t>(c.description()["seed"].GetInt64());
    state[w[0].GetString()] =
        formula_weights(w[0].GetString(), Shape(std::span<const int64_t>(dims)), w[2].GetDouble(), w[3].GetDouble(), seed);
  }
  net.load_state_dict(state, c.name());
}

struct Outcome {
  CellposeOutput out;
  Tensor loss;
};

Outcome run(const ParityCase& c, CellposeNet& net) {
  const CellposeOutput out = net(c.input("x", to_nhwc));
  const Tensor cell = c.input("cell").cast(DType::float32);
  const auto losses =
      cellpose_losses(out.maps, 5.0 * c.input("flow", to_nhwc), cell.reshape({cell.dim(0), cell.dim(1), cell.dim(2), 1}));
  return {out, losses[0] + losses[1]};
}

void check_outcome(const ParityCase& c, const std::string& prefix, const Outcome& got) {
  c.check(prefix + "y", got.out.maps, to_nchw);
  c.check(prefix + "style", got.out.style);
  c.check_number(prefix + "loss", got.loss.item());
}

// Gradients of the first step, the losses of all, running statistics at the end.
void check_training(const ParityCase& c, CellposeNet& net) {
  const auto& how = c.params()["optimizer"];
  Optimizer optimizer({.kind = OptimizerKind::sgd,
                       .momentum = how["momentum"].GetDouble(),
                       .weight_decay = how["weight_decay"].GetDouble(),
                       .weight_decay_norm = how["weight_decay"].GetDouble()},
                      net.parameters());
  Outcome outcome = run(c, net);
  check_outcome(c, "", outcome);
  backward(outcome.loss);
  double squares = 0;
  for (const NamedTensor& p : net.parameters())
    for (const float g : grad_of(*p.tensor).values<float>()) squares += double(g) * double(g);
  const double norm = std::sqrt(squares);
  c.check_number("grad_norm", norm);
  // The gradient of a bias in front of a batch norm is 0 but for rounding, which depends on the order of sums.
  for (const NamedTensor& p : net.parameters())
    c.check_key("gin/" + p.name, to_checkpoint(grad_of(*p.tensor), p.rule.layout), 0, 1e-9 * norm);
  std::vector<double> losses{outcome.loss.item()};
  const int64_t steps = c.integer("steps", 0);
  for (int64_t i = 0; i < steps; ++i) {
    optimizer.step(how["lr"].GetDouble());
    optimizer.zero_grad();
    outcome = run(c, net);
    losses.push_back(outcome.loss.item());
    if (i + 1 < steps) backward(outcome.loss);
  }
  c.check("losses", Tensor::from<double>({steps + 1}, losses));
  for (const NamedTensor& b : net.buffers())
    if (b.name.ends_with("running_mean") || b.name.ends_with("running_var")) c.check("after/" + b.name, *b.tensor);
}

PARITY_MODEL(cellpose_net) {
  CellposeNet net({.in_channels = 2, .base_channels = 32});
  load_formula_weights(c, net);
  CHECK(net.parameter_count() == c.integer("parameters", 0));
  {
    const NoGrad no_grad;
    net.eval();
    check_outcome(c, "eval_", run(c, net));
  }
  if (c.integer("steps", 0) < 0) return;
  net.train();
  check_training(c, net);
}

PARITY_MODEL(cellpose_run_net) {
  const NoGrad no_grad;
  CellposeNet net({.in_channels = 2, .base_channels = 32});
  load_formula_weights(c, net);
  net.eval();
  CHECK(c.integer("pad_multiple", 0) == 16);
  CHECK(c.integer("pad_extra", 0) == 8);
  std::vector<double> style(256);
  const auto network = [&](const Tensor& tiles) {
    const CellposeOutput out = net(tiles);
    for (int64_t i = 0; i < out.style.size(); ++i) style[size_t(i % 256)] += double(out.style.data<float>()[i]);
    return out.maps;
  };
  const Tensor maps = cellpose_maps(
      c.input("x", to_hwc), c.number("rescale", 1),
      {.tile = c.integer("bsize", 0), .overlap = c.number("tile_overlap", 0.1), .augment = c.flag("augment", false)}, network);
  c.check("y", maps, to_chw);
  const double length = std::sqrt(std::inner_product(style.begin(), style.end(), style.begin(), 0.0));
  for (double& s : style) s /= length;
  c.check("style", Tensor::from<double>({256}, style));
}

// Styles from a formula, and what Cellpose's train_size makes of them; its file is fixtures/cellpose_size.npy.
PARITY_MODEL(cellpose_size) {
  const auto styles_of = [&](const Tensor& styles) {
    std::vector<std::vector<double>> rows;
    for (int64_t i = 0; i < styles.dim(0); ++i)
      rows.emplace_back(styles.data<float>() + i * styles.dim(1), styles.data<float>() + (i + 1) * styles.dim(1));
    return rows;
  };
  const int64_t count = c.integer("count", 0);
  const Tensor diameters = c.input("diameters").cast(DType::float64), asked = c.input("asked");
  const CellposeSizeSamples samples{
      .styles = styles_of(formula_weights("styles", {count, 256}, c.number("scale", 0), c.number("offset", 0), 1)),
      .diameters = {diameters.data<double>(), diameters.data<double>() + count}};
  const auto check = [&](const CellposeSizeModel& model) {
    c.check("A", model.A);
    c.check("smean", model.smean);
    c.check("ymean", Tensor::full({1}, model.ymean, DType::float64));
    std::vector<double> estimated;
    for (const std::vector<double>& style : styles_of(asked)) estimated.push_back(model.diameter(style));
    c.check("estimated", Tensor::from<double>({asked.dim(0)}, estimated));
    CHECK(model.diam_mean == c.number("diam_mean", 0));
  };
  const CellposeSizeModel fitted = fit_cellpose_size(samples, c.number("diam_mean", 0));
  check(fitted);
  check(read_cellpose_size(fixtures_folder() / "cellpose_size.npy", 256));
  const TemporaryFolder folder;
  write_file(folder / "own.npy", encode_cellpose_size(fitted));
  check(read_cellpose_size(folder / "own.npy", 256));
  check(*cellpose_size_of(cellpose_size_state(fitted), 256, "state"));
}

// ---- images -------------------------------------------------------------------------------------------------------------

PARITY_MODEL(percentile) {
  std::vector<double> values;
  for (const auto& q : c.params()["q"].GetArray()) values.push_back(glia::percentile(c.input("x"), q.GetDouble() / 100));
  c.check("y", Tensor::from<double>({static_cast<int64_t>(values.size())}, values));
}

PARITY_MODEL(cellpose_normalize) {
  CellposeNormalization how{.invert = c.flag("invert", false), .block = c.integer("tile_norm_blocksize", 0)};
  const auto& percentiles = c.params()["percentile"];
  how.percentiles = {percentiles[0].GetDouble(), percentiles[1].GetDouble()};
  if (const auto& limits = c.params()["lowhigh"]; limits.IsArray()) how.low_high = {limits[0].GetDouble(), limits[1].GetDouble()};
  c.check("y", cellpose_normalized(c.input("x", to_hwc), how), to_chw);
}

// The image itself as what the network makes of it.
PARITY_MODEL(cellpose_resize) {
  const Tensor x = c.input("x");
  const auto network = [](const Tensor& tiles) { return concat({tiles, tiles, tiles}, 3); };
  const Tensor maps =
      cellpose_maps(x.reshape({x.dim(0), x.dim(1), 1}), c.number("diam_mean", 0) / c.number("diameter", 0), {}, network);
  c.check("y", apply(slice_of(maps.shape(), 2, 1, 2), maps).reshape({maps.dim(0), maps.dim(1)}));
}

PARITY_MODEL(cellpose_tiles) {
  const bool augment = c.flag("augment", false);
  const int64_t tile = c.integer("bsize", 0);
  std::vector<int64_t> size{c.integer("height", 0), c.integer("width", 0)}, y, x;
  if (augment)
    for (int64_t& side : size) side = std::max(side, tile);
  const CellposeTiles ys = glia::cellpose_tiles(size[0], tile, c.number("tile_overlap", 0), augment);
  const CellposeTiles xs = glia::cellpose_tiles(size[1], tile, c.number("tile_overlap", 0), augment);
  for (const int64_t top : ys.starts)
    for (const int64_t left : xs.starts) {
      y.insert(y.end(), {top, top + ys.length});
      x.insert(x.end(), {left, left + xs.length});
    }
  const auto count = static_cast<int64_t>(y.size()) / 2;
  c.check("size", Tensor::from<int64_t>({2}, size));
  c.check("y", Tensor::from<int64_t>({count, 2}, y));
  c.check("x", Tensor::from<int64_t>({count, 2}, x));
}

PARITY_MODEL(cellpose_taper) {
  const int64_t height = c.integer("height", 0), width = c.integer("width", 0);
  const CellposeTaper taper = glia::cellpose_taper(height, width);
  std::vector<double> mask;
  for (const double row : taper.rows)
    for (const double column : taper.columns) mask.push_back(row * column);
  c.check("mask", Tensor::from<double>({height, width}, mask));
}

// Tiles anywhere, summed by their weights: the same as the bands of cellpose_run, which sees whole rows of tiles.
PARITY_MODEL(cellpose_average_tiles) {
  const int64_t height = c.integer("height", 0), width = c.integer("width", 0);
  const Tensor tiles = c.input("tiles", to_nhwc), ys = c.input("y").cast(DType::int64), xs = c.input("x").cast(DType::int64);
  const int64_t h = tiles.dim(1), w = tiles.dim(2);
  const CellposeTaper taper = glia::cellpose_taper(h, w);
  std::vector<double> sum(size_t(height * width * 3)), weight(size_t(height * width));
  for (int64_t t = 0; t < tiles.dim(0); ++t)
    for (int64_t i = 0; i < h; ++i)
      for (int64_t j = 0; j < w; ++j) {
        const int64_t at = (ys.data<int64_t>()[2 * t] + i) * width + xs.data<int64_t>()[2 * t] + j;
        const double share = taper.rows[size_t(i)] * taper.columns[size_t(j)];
        weight[size_t(at)] += share;
        for (int64_t k = 0; k < 3; ++k)
          sum[size_t(at * 3 + k)] += share * double(tiles.data<float>()[((t * h + i) * w + j) * 3 + k]);
      }
  for (size_t i = 0; i < sum.size(); ++i) sum[i] /= weight[i / 3];
  c.check("y", Tensor::from<double>({height, width, 3}, sum), to_chw);
}

PARITY_MODEL(cellpose_unaugment_tiles) {
  const Tensor tiles = c.input("tiles");  // (rows, columns, 3, h, w)
  const int64_t h = tiles.dim(3), w = tiles.dim(4);
  const Tensor result(tiles.shape());
  for (int64_t i = 0; i < tiles.dim(0) * tiles.dim(1); ++i) {
    const Tensor all = tiles.reshape({tiles.dim(0) * tiles.dim(1), 3, h, w}),
                 tile = permuted(all.slice(i, i + 1).reshape({3, h, w}), to_hwc);
    const Tensor flipped = cellpose_flipped(tile, cellpose_flip(i / tiles.dim(1), i % tiles.dim(1)), true);
    result.reshape(all.shape()).slice(i, i + 1).reshape({3, h, w}).copy_from(permuted(flipped, to_chw));
  }
  c.check("y", result);
}

PARITY_MODEL(cellpose_augment) {
  CellposeAugmentation a{.height = c.integer("height", 0), .width = c.integer("width", 0)};
  a.flip = c.flag("flip", false);
  a.theta = c.number("theta", 0);
  a.scale = c.number("scale", 0);
  a.shift = {c.params()["dxy"][0].GetDouble(), c.params()["dxy"][1].GetDouble()};
  const Tensor image = c.input("image"), labels = c.input("labels").cast(DType::int32);
  const Tensor flat = image.reshape({image.dim(0), image.dim(1), 1});
  const Tensor y = augment_cellpose_image(concat({flat, c.input("flow", to_hwc)}, 2), a);
  c.check("image", apply(slice_of(y.shape(), 2, 0, 1), y).reshape({a.height, a.width}));
  c.check("flow", apply(slice_of(y.shape(), 2, 1, 3), y), to_chw);
  const Tensor turned = augment_cellpose_labels(labels, a), compare = c.input("compare_labels").cast(DType::int32);
  for (int64_t i = 0; i < turned.size(); ++i) turned.data<int32_t>()[i] *= compare.data<int32_t>()[i];
  c.check("labels", turned);
}

PARITY_MODEL(cellpose_average_precision) {
  const Overlaps o = overlaps(c.input("true").cast(DType::int32), c.input("pred").cast(DType::int32));
  std::vector<double> ap, tp, fp, fn;
  for (const auto& t : c.params()["thresholds"].GetArray()) {
    const MatchCounts counts = match_counts(o, static_cast<int>(std::lround(100 * t.GetDouble())), true);
    ap.push_back(counts.precision());
    tp.push_back(double(counts.tp));
    fp.push_back(double(counts.fp));
    fn.push_back(double(counts.fn));
  }
  const auto list = [](const std::vector<double>& v) { return Tensor::from<double>({static_cast<int64_t>(v.size())}, v); };
  c.check("ap", list(ap));
  c.check("tp", list(tp));
  c.check("fp", list(fp));
  c.check("fn", list(fn));
}

// ---- dynamics -----------------------------------------------------------------------------------------------------------

Tensor labels_of(const Tensor& t) { return t.cast(DType::int32); }

// Labels numbered in raster order.
Tensor canonical(const Tensor& labels) {
  std::map<int32_t, int32_t> number;
  Tensor result(labels.shape(), DType::int32);
  for (int64_t i = 0; i < labels.size(); ++i) {
    const int32_t label = labels.data<int32_t>()[i];
    const auto next = static_cast<int32_t>(number.size()) + 1;
    result.data<int32_t>()[i] = label == 0 ? 0 : number.try_emplace(label, next).first->second;
  }
  return result;
}

int32_t count_of(const Tensor& labels) {
  const auto values = labels.values<int32_t>();
  return *std::max_element(values.begin(), values.end());
}

// The same partition: a share of at most `allowed` of the pixels differs.
void check_partition(const Tensor& got, const Tensor& want, double allowed) {
  const Tensor a = canonical(got), b = canonical(want);
  REQUIRE(a.shape() == b.shape());
  int64_t different = 0;
  for (int64_t i = 0; i < a.size(); ++i) different += a.data<int32_t>()[i] != b.data<int32_t>()[i];
  CHECK(count_of(a) == count_of(b));
  CHECK(double(different) <= allowed * double(a.size()));
}

// (H, W, 3): the flow, and the logit or nothing.
Tensor maps_of(const Tensor& flow, const Tensor& logit) {
  const Tensor last = logit ? logit.reshape({logit.dim(0), logit.dim(1), 1}) : Tensor::zeros({flow.dim(1), flow.dim(2), 1});
  return concat({permuted(flow, to_hwc), last}, 2);
}

std::vector<int32_t> pixels_of(const ParityCase& c, int64_t width) {
  const Tensor y = labels_of(c.input("y")), x = labels_of(c.input("x"));
  std::vector<int32_t> pixels;
  for (int64_t i = 0; i < y.size(); ++i)
    pixels.push_back(static_cast<int32_t>(y.data<int32_t>()[i] * width + x.data<int32_t>()[i]));
  return pixels;
}

PARITY_OP(cellpose_flow_targets) {
  const Tensor flow = glia::cellpose_flow_targets(labels_of(c.input("labels"))).clone();
  if (const Tensor compare = c.input("compare"))
    for (int64_t i = 0; i < flow.size(); ++i)
      if (labels_of(compare).data<int32_t>()[i / 2] == 0) flow.data<float>()[i] = 0;
  c.check("flow", flow, to_chw);
}

PARITY_OP(cellpose_follow_flows) {
  const Tensor y = c.input("y").cast(DType::float32), x = c.input("x").cast(DType::float32);
  const Tensor points = concat({y.reshape({y.size(), 1}), x.reshape({x.size(), 1})}, 1);
  const FollowFlow op{.steps = c.integer("niter", 0), .interpolate = c.flag("interpolate", true)};
  c.check("p", apply(op, c.input("flow", to_hwc), points), Axes{1, 0});
}

PARITY_OP(cellpose_masks_from_positions) {
  const Tensor want = labels_of(c.load("out/masks"));
  const Tensor points = permuted(c.input("p").cast(DType::float32), {1, 0});
  CHECK(c.integer("pad", 0) == FlowSeeds::margin);
  check_partition(cellpose_gather(points, pixels_of(c, want.dim(1)), want.dim(0), want.dim(1), c.number("max_size_fraction", 0)),
                  want, 0);
}

PARITY_OP(cellpose_flow_error) {
  const std::vector<double> errors = cellpose_flow_errors(labels_of(c.input("masks")), maps_of(c.input("flow"), {}));
  c.check("error", Tensor::from<double>({static_cast<int64_t>(errors.size())}, errors));
}

PARITY_OP(cellpose_masks) {
  const CellposeDynamics how{.steps = c.integer("niter", 0),
                             .interpolate = c.flag("interpolate", true),
                             .cell_threshold = c.number("cellprob_threshold", 0),
                             .flow_threshold = c.number("flow_threshold", 0),
                             .max_size_fraction = c.number("max_size_fraction", 0),
                             .min_size = c.integer("min_size", 0)};
  const std::string inputs = c.text("inputs", "");
  const Tensor maps = maps_of(c.load_of(inputs, "in/flow"), c.load_of(inputs, "in/cellprob"));
  check_partition(glia::cellpose_masks(maps, how), labels_of(c.load("out/masks")), 0.001);
}

PARITY_MODEL(cellpose_fill_holes_and_remove_small) {
  check_partition(cellpose_tidy(labels_of(c.input("labels")), c.integer("min_size", 0)), labels_of(c.load("out/masks")), 0);
}

PARITY_MODEL(cellpose_outlines) { c.check("outlines", glia::cellpose_outlines(labels_of(c.input("labels")))); }

PARITY_MODEL(cellpose_diameter) {
  std::map<int32_t, int64_t> areas;
  const Tensor labels = labels_of(c.input("labels"));
  for (const int32_t label : labels.values<int32_t>())
    if (label) ++areas[label];
  std::vector<int64_t> list;
  for (const auto& [label, area] : areas) list.push_back(area);
  c.check_number("diameter", glia::cellpose_diameter(list));
}

}  // namespace
}  // namespace glia::tests
