#pragma once
// What the files of the CPU convolutions share.
#include "kernels/conv.h"

namespace glia::cpu {

const ConvAlgorithm& chosen_algorithm(const ConvGeometry& g, ConvPass pass);
// What the algorithm's forward pass takes: absent where nothing is kept.
Tensor packed_filter(const ConvAlgorithm& algorithm, const ConvGeometry& g, const Tensor& w, PackedFilter* kept);

// Depthwise convolutions, one channel per group: loops over channels (conv_depthwise.cpp).
void depthwise_forward(const ConvGeometry& g, const float* x, const float* w, const Tensor&, const ConvEpilogue& e, float* y);
void depthwise_data_gradient(const ConvGeometry& g, const float* dy, const float* w, const ConvEpilogue& e, float* dx);
void depthwise_weight_gradient(const ConvGeometry& g, const float* x, const float* dy, float* dw);

// The weight gradient of convolutions of up to four channels (conv_few_channels.cpp).
bool few_channels_applicable(const ConvGeometry& g, ConvPass pass);
void few_channels_weight_gradient(const ConvGeometry& g, const float* x, const float* dy, float* dw);

// The data gradient of convolutions with up to four results a pixel (conv_few_results.cpp).
bool few_results_applicable(const ConvGeometry& g, ConvPass pass);
void few_results_data_gradient(const ConvGeometry& g, const float* dy, const float* w, const ConvEpilogue& e, float* dx);

// One pass over dy (rows, k): m = dy where y > 0 (y null: everywhere); masked = m, scaled = m * scale, sums[k] = sum of m over the
// rows. Null outputs are not wanted; they may not overlap dy.
struct OutputGradient {
  int64_t rows = 0, k = 0;
  const float* dy = nullptr;
  const float* y = nullptr;
  const float* scale = nullptr;
  float* masked = nullptr;
  float* scaled = nullptr;
  float* sums = nullptr;
};
void run(const OutputGradient& pass);

// dy behind a convolution's activation and scale; also its other uses, where they are wanted, in the same pass over memory.
Tensor output_gradient(Activation activation, const Tensor& y, const Tensor& scale, const Tensor& dy, Tensor* dbias,
                       Tensor* dresidual);

}  // namespace glia::cpu
