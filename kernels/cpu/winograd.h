#pragma once
// Convolutions with 3x3 filters and stride 1 by Winograd's F(4x4, 3x3) (Lavin and Gray 2016, section 4.1): 4x4 results take 36 products per
// pair of channels instead of 144.
//
//   Y = A^T [ (G g G^T) . (B^T d B) ] A      g: filter 3x3, d: 6x6 pixels of the image, Y: 4x4 results
//
// The sums over the channels are 36 matrix products, one for each element of the transformed 6x6. Rounding errors are 4 to 10 times those
// of the direct sum. winograd.cpp has forward passes and data gradients, winograd_weights.cpp the gradient of the filter.
#include <cstdint>
#include <optional>

#include "kernels/conv.h"

namespace glia::cpu {

// Pixels whose channels lie in one dense tensor, or the first `split` of them in one and the rest in another.
// `split` is a multiple of 16 then, so that a vector of channels is in one of them.
template <class T>
struct Pixels {
  T* first = nullptr;
  int64_t split = 0;
  T* rest = nullptr;
  std::array<bool, 2> over{};  // for results: those of this part are zeroed where what they are written over is not above 0

  struct Channel {
    T* at;          // of the first pixel
    int64_t pixel;  // from one pixel to the next
  };
  Channel channel(int64_t i, int64_t channels) const {
    return i < split ? Channel{first + i, split} : Channel{rest + (i - split), channels - split};
  }
};

struct WinogradConv {
  Pixels<const float> x{};  // images of h x w pixels with c channels; outside are zeros
  int64_t images = 1, h = 1, w = 1, c = 0;
  int64_t top = 0, left = 0;  // result (p, q) reads rows p - top .. p - top + 2 and columns q - left .. q - left + 2
  // Filter element (r, s, input channel i, output channel j) at filter[r * f_row + s * f_column + i * f_inner + j * f_outer].
  const float* filter = nullptr;
  int64_t f_row = 0, f_column = 0, f_inner = 0, f_outer = 0;
  Pixels<float> y{};  // p x q pixels with k channels
  int64_t p = 1, q = 1, k = 0;
  ConvEpilogue epilogue{};
};
// What a run on images of this size can be spared, made of filter, f_..., c and k alone, as large as the filter, and its form: it serves
// all images for which the form is the same. No form: nothing worth its memory.
const char* packed_form(const WinogradConv& conv);
Tensor packed_filter(const WinogradConv& conv);
void run(const WinogradConv& conv, const Tensor& packed);  // packed may be absent

// dw[k, r, s, c] = sum over images and results of g[p, q, k] x[p - top + r, q - left + s, c], dense KRSC.
struct WinogradWeights {
  Pixels<const float> x{};
  int64_t images = 1, h = 1, w = 1, c = 0;
  int64_t top = 0, left = 0;
  const float* g = nullptr;  // p x q pixels with k channels, dense
  int64_t p = 1, q = 1, k = 0;
  float* dw = nullptr;
};
void run(const WinogradWeights& gradient);

// The entries of the convolution's list of algorithms (conv.cpp), and the same for an image in two parts (concat_conv.cpp).
bool winograd_applicable(const ConvGeometry& g,
                         ConvPass pass);  // 3x3, stride 1, one group, and precision() allows another order of sums
// By how much it is faster than the direct product, as a model of the machine has it (see the definition). Absent where it is not
// considered: not applicable, or fewer than 16 channels on a side.
std::optional<double> winograd_gain(const ConvGeometry& g, ConvPass pass);
inline constexpr double least_winograd_gain = 1 / 0.95;  // above which it is chosen
bool winograd_pays(const ConvGeometry& g, ConvPass pass);
const char* winograd_packed_form(const ConvGeometry& g);
Tensor winograd_pack(const ConvGeometry& g, const float* w);
void winograd_forward(const ConvGeometry& g, const float* x, const float* w, const Tensor& packed, const ConvEpilogue& e,
                      float* y);
void winograd_forward(const ConvGeometry& g, Pixels<const float> x, const float* w, const Tensor& packed, const ConvEpilogue& e,
                      float* y);
void winograd_data_gradient(const ConvGeometry& g, const float* dy, const float* w, const ConvEpilogue& e, float* dx);
void winograd_data_gradient(const ConvGeometry& g, const float* dy, const float* w, const ConvEpilogue& e, Pixels<float> dx);
void winograd_weight_gradient(const ConvGeometry& g, const float* x, const float* dy, float* dw);
void winograd_weight_gradient(const ConvGeometry& g, Pixels<const float> x, const float* dy, float* dw);

}  // namespace glia::cpu
