#pragma once
// What the files of the device convolutions share.
#include "kernels/conv_index.h"
#include "kernels/cuda/launch.cuh"

namespace glia::GPU_NS {

#if GPU_EMULATED
#define GLIA_UNROLL_4
#define GLIA_NO_UNROLL
#else
#define GLIA_UNROLL_4 _Pragma("unroll 4")
#define GLIA_NO_UNROLL _Pragma("unroll 1")
#endif

// The value to store at `at` of the result, whose channel is `channel`.
__device__ __forceinline__ float finish(const ConvEpilogue& e, float sum, int channel, int64_t at) {
  if (e.scale) sum *= e.scale[channel];
  if (e.bias) sum += e.bias[channel];
  if (e.residual) sum += e.residual[at];
  return e.relu && sum < 0 ? 0.0f : sum;  // NaN passes
}

// out[j] = sum over i of in[i, j], the rows in a fixed order (conv_gradient.cu).
void sum_rows(const float* in, int64_t rows, int64_t columns, float* out);

// dy behind the activation and the scale; also its other uses, in the same pass over memory (conv_gradient.cu).
Tensor output_gradient(Activation activation, const Tensor& y, const Tensor& scale, const Tensor& dy, Tensor* dbias,
                       Tensor* dresidual);

// The sum over taps that kernels/conv_index.h describes, for all classes of pixels and all groups: forward and data gradient. `a`
// holds `inner` channels of each group and pixel, a multiple of 4 at an address that is a multiple of 16, and so does `b` for
// each tap of each column.
struct TapProduct {
  const float* a = nullptr;
  const float* b = nullptr;
  float* d = nullptr;
  ConvEpilogue epilogue{};
  int images = 0, h = 0, w = 0, inner = 0, groups = 1;  // of a
  int step_h = 1, step_w = 1;
  int columns = 0, b_group = 0;
  // Row (n, i, j) and column (class, channel) go to d[n, i out_step_h + phase_h, j out_step_w + phase_w, channel], where the
  // phases are the grid's, plus class / out_step_w and class % out_step_w. One grid whose columns are `channels` of each class is
  // how a filter as large as its stride, a pixel shuffle, takes one product.
  int channels = 0, out_h = 0, out_w = 0, out_step_h = 1, out_step_w = 1;
  bool vectors = false;  // groups of 4 channels of d have addresses that are multiples of 16
  int classes = 1;
  TapGrid grids[most_classes] = {};
};

// dw[k, t, c] = sum over pixels dy[pixel, k] x[pixel's place + t, c], with partial sums of `steps` steps each `part` apart in d.
struct PixelProduct {
  const float* x = nullptr;
  const float* dy = nullptr;
  float* d = nullptr;
  int h = 0, w = 0, inner = 0, rows_padded = 0, groups = 1;  // channels of a group in memory: of x, of dy
  int pixels = 0;
  PixelOrder order{};
  TapAxis down, across;
  int step_h = 1, step_w = 1;
  int rows = 0, channels = 0;  // of d, of a group
  int steps = 0;
  int64_t part = 0;
  bool vectors = false;
};

// How the products are done by one arithmetic (conv_simt.cu, conv_mma.cu).
struct Products {
  void (*taps)(const TapProduct&, Device);
  void (*pixels)(PixelProduct, const Tensor& dw);
};
bool products_apply(const ConvGeometry& g);
void product_forward(const Products& by, const ConvGeometry& g, const Tensor& x, const Tensor& w, const ConvEpilogue& e,
                     const Tensor& y);
void product_data_gradient(const Products& by, const ConvGeometry& g, const Tensor& dy, const Tensor& w, const ConvEpilogue& e,
                           const Tensor& dx);
void product_weight_gradient(const Products& by, const ConvGeometry& g, const Tensor& x, const Tensor& dy, const Tensor& dw);

size_t shared_limit(Device device);  // bytes of shared memory that a block may have
// The tile that tests force, of those an arithmetic has; -1: by shape (conv.cu).
int forced_tile();

// The algorithms of the list in conv.cu, each in a file of its own.
#define GLIA_DECLARE_ALGORITHM(name)                                                                                     \
  namespace name {                                                                                                       \
  bool applicable(const ConvGeometry& g, ConvPass pass);                                                                 \
  void forward(const ConvGeometry& g, const Tensor& x, const Tensor& w, const ConvEpilogue& e, const Tensor& y);         \
  void data_gradient(const ConvGeometry& g, const Tensor& dy, const Tensor& w, const ConvEpilogue& e, const Tensor& dx); \
  void weight_gradient(const ConvGeometry& g, const Tensor& x, const Tensor& dy, const Tensor& dw);                      \
  int tiles(ConvPass pass);                                                                                              \
  }
GLIA_DECLARE_ALGORITHM(direct_conv)
GLIA_DECLARE_ALGORITHM(simt_conv)
GLIA_DECLARE_ALGORITHM(mma_conv)
#undef GLIA_DECLARE_ALGORITHM

}  // namespace glia::GPU_NS
