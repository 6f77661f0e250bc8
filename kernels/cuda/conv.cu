// The convolutions of devices: the bodies of the ops, and the list of algorithms that they pick from for each pass. A transposed
// convolution is the adjoint of a convolution in its image, so its forward is a data gradient and its data gradient a forward.
#include <algorithm>
#include <atomic>
#include <string>
#include <vector>

#include "kernels/cuda/conv_parts.cuh"
#include "kernels/tuning.h"

namespace glia::GPU_NS {
namespace {

// In the order in which they are tried.
constexpr DeviceConvAlgorithm algorithms[] = {
    {"mma", mma_conv::applicable, mma_conv::forward, mma_conv::data_gradient, mma_conv::weight_gradient, mma_conv::tiles},
    {"simt", simt_conv::applicable, simt_conv::forward, simt_conv::data_gradient, simt_conv::weight_gradient, simt_conv::tiles},
    {"direct", direct_conv::applicable, direct_conv::forward, direct_conv::data_gradient, direct_conv::weight_gradient},
};

std::atomic<const DeviceConvAlgorithm*> forced{nullptr};
std::atomic<int> tile_forced{-1};

struct TileScope {
  explicit TileScope(int tile) { tile_forced.store(tile); }
  ~TileScope() { tile_forced.store(-1); }
};

// An algorithm and one of its tiles, as kernels/tuning.h chooses among them.
struct Way {
  const DeviceConvAlgorithm* algorithm;
  int tile;
};
struct WaysOfPass {
  std::vector<Way> ways;
  std::vector<std::string> texts;
  std::vector<const char*> names;

  explicit WaysOfPass(ConvPass pass) {
    const auto add = [&](const DeviceConvAlgorithm& a) {
      const int tiles = a.tiles ? a.tiles(pass) : 0;
      if (tiles == 0) ways.push_back({&a, -1}), texts.push_back(a.name);
      for (int tile = 0; tile < tiles; ++tile) ways.push_back({&a, tile}), texts.push_back(fmt::format("{}/{}", a.name, tile));
    };
#if !GPU_EMULATED && defined(GLIA_WITH_CUDNN)
    add(cudnn::conv_algorithm());
#endif
    for (const DeviceConvAlgorithm& a : algorithms) add(a);
    for (const std::string& text : texts) names.push_back(text.c_str());
  }
};
const WaysOfPass& ways_of(ConvPass pass) {
  static const WaysOfPass all[] = {WaysOfPass(ConvPass::forward), WaysOfPass(ConvPass::data_gradient),
                                   WaysOfPass(ConvPass::weight_gradient)};
  return all[static_cast<size_t>(pass)];
}

// Where nothing is measured, cuDNN comes first on a GPU unless --kernels hand.
const DeviceConvAlgorithm& choose(const ConvGeometry& g, ConvPass pass) {
  if (const DeviceConvAlgorithm* wanted = forced.load()) {
    if (wanted->applicable(g, pass)) return *wanted;
  } else {
#if !GPU_EMULATED && defined(GLIA_WITH_CUDNN)
    if (kernel_choice() != KernelChoice::hand && cudnn::conv_algorithm().applicable(g, pass)) return cudnn::conv_algorithm();
#endif
  }
  return *std::find_if(std::begin(algorithms), std::end(algorithms), [&](const auto& a) { return a.applicable(g, pass); });
}

// compute(algorithm) by the algorithm, and tile, to take.
template <class Compute>
void run(const ConvGeometry& g, ConvPass pass, const ConvEpilogue& e, Device device, const Compute& compute) {
  if (forced.load() || !tuning(device)) return compute(choose(g, pass));
  const WaysOfPass& all = ways_of(pass);
  const auto run_way = [&](size_t i) {
    const TileScope tile(all.ways[i].tile);
    compute(*all.ways[i].algorithm);
  };
  const int64_t epilogue = (e.scale ? 1 : 0) | (e.bias ? 2 : 0) | (e.residual ? 4 : 0) | (e.relu ? 8 : 0);
  // A detector's heads have another number of regions at every step: what is fastest for twice as many is good for them too.
  const TuningKey key{2,           int64_t(pass), int64_t(precision()),
                      rounded_count(g.n),         g.h,           g.w,
                      g.c,         g.k,           g.r,
                      g.s,         g.p,           g.q,
                      g.stride[0], g.stride[1],   g.before[0],
                      g.before[1], g.dilation[0], g.dilation[1],
                      g.groups,    epilogue};
  run_fastest(key, {all.names, [&](size_t i) { return all.ways[i].algorithm->applicable(g, pass); }, run_way}, device);
}
void run_forward(const ConvGeometry& g, const Tensor& x, const Tensor& w, const ConvEpilogue& e, const Tensor& y) {
  run(g, ConvPass::forward, e, y.device(), [&](const DeviceConvAlgorithm& a) { a.forward(g, x, w, e, y); });
}
void run_data_gradient(const ConvGeometry& g, const Tensor& dy, const Tensor& w, const ConvEpilogue& e, const Tensor& dx) {
  run(g, ConvPass::data_gradient, e, dx.device(), [&](const DeviceConvAlgorithm& a) { a.data_gradient(g, dy, w, e, dx); });
}
void run_weight_gradient(const ConvGeometry& g, const Tensor& x, const Tensor& dy, const Tensor& dw) {
  run(g, ConvPass::weight_gradient, {}, dw.device(), [&](const DeviceConvAlgorithm& a) { a.weight_gradient(g, x, dy, dw); });
}

const float* data_or_null(const Tensor& t) { return t ? t.device_data<float>() : nullptr; }

}  // namespace

std::span<const DeviceConvAlgorithm> conv_algorithms() { return algorithms; }
void force_conv_algorithm(const DeviceConvAlgorithm* algorithm, int tile) {
  forced.store(algorithm);
  tile_forced.store(tile);
}
int forced_tile() { return tile_forced.load(std::memory_order_relaxed); }

void conv2d(const Conv2d& op, const Tensor& x, const Tensor& w, const Tensor& bias, const Tensor& scale, const Tensor& residual,
            Tensor& y) {
  const ConvGeometry g = geometry(op, x, w, y);
  const ConvEpilogue e{.scale = data_or_null(scale),
                       .bias = data_or_null(bias),
                       .residual = data_or_null(residual),
                       .relu = op.activation == Activation::relu};
  run_forward(g, x, w, e, y);
}

void conv2d_backward(const Conv2d& op, const Tensor& x, const Tensor& w, const Tensor&, const Tensor& scale, const Tensor&,
                     const Tensor& y, const Tensor& dy, Tensor* dx, Tensor* dw, Tensor* dbias, Tensor* dscale,
                     Tensor* dresidual) {
  GLIA_CHECK(!dscale, "conv2d: scale is a constant and has no gradient; train an affine layer of its own instead");
  const ConvGeometry g = geometry(op, x, w, dy);
  const Tensor dsum = output_gradient(op.activation, y, scale, dy, dbias, dresidual);
  if (dx) run_data_gradient(g, dsum, w, {}, *dx);
  if (dw) run_weight_gradient(g, x, dsum, *dw);
}

void conv_transpose2d(const ConvTranspose2d& op, const Tensor& x, const Tensor& w, const Tensor& bias, Tensor& y) {
  const ConvGeometry g = geometry(op, x, w, y);
  const ConvEpilogue e{.bias = data_or_null(bias), .relu = op.activation == Activation::relu};
  run_data_gradient(g, x, w, e, y);
}

void conv_transpose2d_backward(const ConvTranspose2d& op, const Tensor& x, const Tensor& w, const Tensor&, const Tensor& y,
                               const Tensor& dy, Tensor* dx, Tensor* dw, Tensor* dbias) {
  const ConvGeometry g = geometry(op, x, w, dy);
  const Tensor dsum = output_gradient(op.activation, y, Tensor(), dy, dbias, nullptr);
  if (dx) run_forward(g, dsum, w, {}, *dx);
  if (dw) run_weight_gradient(g, dsum, x, *dw);
}

}  // namespace glia::GPU_NS
