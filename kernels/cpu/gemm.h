#pragma once
// The two matrix products behind every convolution and linear layer on the CPU.
//
//   ImplicitGemm  d[pixel, j] = epilogue(sum over taps and inner channels of a[pixel moved by the tap, i] b[tap, i, j])
//                 forward passes and data gradients: a is read where it lies, b is packed
//   PixelSum      d[k, tap, c] (+)= sum over pixels of g[pixel, k] x[pixel moved by the tap, c]
//                 weight gradients
//
// How a sum is cut depends on the sizes alone, so that the bits do not depend on the number of threads.
#include <cstdint>
#include <span>
#include <vector>

#include "tensor/tensor.h"

namespace glia::cpu {

// Where one filter element reads the image: pixel (p, q) of the grid reads (p stride_h + dh, q stride_w + dw).
struct Tap {
  int64_t dh = 0, dw = 0;
  int64_t filter = 0;  // offset of this tap's elements in the filter
};

// What happens to a sum before it is stored: d = max(0, sum * scale[j] + bias[j] + residual). Null pointers: not wanted.
struct Epilogue {
  const float* scale = nullptr;
  const float* bias = nullptr;
  const float* residual = nullptr;  // laid out as d
  bool relu = false;
  bool accumulate = false;  // add to what d holds instead of overwriting it
};

struct ImplicitGemm {
  // a: images of h x w pixels, pixels outside count as zeros; element (pixel, i) at a[pixel * a_pixel + i * a_inner].
  const float* a = nullptr;
  int64_t images = 1, h = 1, w = 1;
  int64_t a_pixel = 0, a_inner = 1;
  int64_t stride_h = 1, stride_w = 1;
  std::vector<Tap> taps{};  // sorted by (dh, dw) for speed; none: the sum is 0
  int64_t inner = 0;        // channels per tap
  // b: element (tap, i, j) at b[tap.filter + i * b_inner + j * b_column].
  const float* b = nullptr;
  int64_t b_inner = 0, b_column = 1;
  // d: a grid of p x q pixels per image; element (image, p, q, j) at d[image * d_image + p * d_row + q * d_pixel + j].
  float* d = nullptr;
  int64_t p = 1, q = 1, columns = 0;
  int64_t d_image = 0, d_row = 0, d_pixel = 0;
  Epilogue epilogue{};
};

// All problems at once; they must write to different places. panels: what packed_panels made of the same problems' b, or absent.
void run(std::span<const ImplicitGemm> problems, const Tensor& panels = {});

// b of the problems as run() reads it: a function of b, taps, inner and columns, whatever the images.
Tensor packed_panels(std::span<const ImplicitGemm> problems);

struct PixelSum {
  // x: images of h x w pixels, outside zeros; g: images of p x q pixels. Channels are contiguous.
  const float* x = nullptr;
  int64_t images = 1, h = 1, w = 1, x_pixel = 0, channels = 0;
  const float* g = nullptr;
  int64_t p = 1, q = 1, g_pixel = 0;
  int64_t g_row = 0,
          g_image = 0;  // from a row of g to the next, from an image to the next; g_row 0: all pixels follow one another
  int64_t rows = 0;
  int64_t stride_h = 1, stride_w = 1;
  std::vector<Tap> taps{};  // sorted by (dh, dw)
  // d: element (k, tap, c) at d[k * d_row + tap.filter + c].
  float* d = nullptr;
  int64_t d_row = 0;
  bool accumulate = false;
};

void run(std::span<const PixelSum> problems);

// Reusable memory of the calling thread, aligned to 64 bytes; a later call with the same slot may move it.
enum class Scratch { packed, gathered, rows, strip, count };
float* thread_scratch(Scratch slot, int64_t floats);

// Bytes of second-level cache of one core.
int64_t l2_bytes();

}  // namespace glia::cpu
