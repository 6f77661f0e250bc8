#pragma once
// The convolutions of UNet (base 64, 256x256), of ResNet-50-FPN on 800x1088, and of the mask head: what the benchmarks of the
// convolutions run on.
#include <string>
#include <vector>

#include "kernels/conv.h"

namespace glia::bench {

struct ConvShape {
  std::string name;
  int64_t n, c, h, w, k, size, stride, pad;

  Conv2d op() const { return {.stride = {stride, stride}, .pad = {pad, pad, pad, pad}}; }
  Shape x() const { return {n, h, w, c}; }
  Shape filter() const { return {k, size, size, c}; }
};

inline const std::vector<ConvShape>& conv_shapes() {
  static const std::vector<ConvShape> shapes = {
      {"unet 3>64 256", 1, 3, 256, 256, 64, 3, 1, 1},
      {"unet 32>32 256", 1, 32, 256, 256, 32, 3, 1, 1},
      {"unet 64>64 256", 1, 64, 256, 256, 64, 3, 1, 1},
      {"unet 128>64 256", 1, 128, 256, 256, 64, 3, 1, 1},
      {"unet 128>128 128", 1, 128, 128, 128, 128, 3, 1, 1},
      {"unet 256>256 64", 1, 256, 64, 64, 256, 3, 1, 1},
      {"unet 512>512 32", 1, 512, 32, 32, 512, 3, 1, 1},
      {"unet 1024>1024 16", 1, 1024, 16, 16, 1024, 3, 1, 1},
      {"unet 64>64 256 b5", 5, 64, 256, 256, 64, 3, 1, 1},
      {"unet 512>512 32 b5", 5, 512, 32, 32, 512, 3, 1, 1},
      {"unet 1024>1024 16 b5", 5, 1024, 16, 16, 1024, 3, 1, 1},
      {"unet head 64>1", 1, 64, 256, 256, 1, 1, 1, 0},
      {"stem 7x7 s2", 1, 3, 800, 1088, 64, 7, 2, 3},
      {"res2 1x1 64>64", 1, 64, 200, 272, 64, 1, 1, 0},
      {"res2 1x1 64>256", 1, 64, 200, 272, 256, 1, 1, 0},
      {"res2 1x1 256>64", 1, 256, 200, 272, 64, 1, 1, 0},
      {"res2 3x3 64", 1, 64, 200, 272, 64, 3, 1, 1},
      {"res3 3x3 s2 128", 1, 128, 200, 272, 128, 3, 2, 1},
      {"res3 1x1 s2 256>512", 1, 256, 200, 272, 512, 1, 2, 0},
      {"res3 1x1 512>128", 1, 512, 100, 136, 128, 1, 1, 0},
      {"res3 1x1 128>512", 1, 128, 100, 136, 512, 1, 1, 0},
      {"res3 3x3 128", 1, 128, 100, 136, 128, 3, 1, 1},
      {"res4 3x3 s2 256", 1, 256, 100, 136, 256, 3, 2, 1},
      {"res4 1x1 1024>256", 1, 1024, 50, 68, 256, 1, 1, 0},
      {"res4 1x1 256>1024", 1, 256, 50, 68, 1024, 1, 1, 0},
      {"res4 3x3 256", 1, 256, 50, 68, 256, 3, 1, 1},
      {"res5 3x3 s2 512", 1, 512, 50, 68, 512, 3, 2, 1},
      {"res5 1x1 2048>512", 1, 2048, 25, 34, 512, 1, 1, 0},
      {"res5 1x1 512>2048", 1, 512, 25, 34, 2048, 1, 1, 0},
      {"res5 3x3 512", 1, 512, 25, 34, 512, 3, 1, 1},
      {"fpn 3x3 256 s4", 1, 256, 200, 272, 256, 3, 1, 1},
      {"fpn 3x3 256 s8", 1, 256, 100, 136, 256, 3, 1, 1},
      {"fpn 3x3 256 s32", 1, 256, 25, 34, 256, 3, 1, 1},
      {"mask 3x3 256 14 r128", 128, 256, 14, 14, 256, 3, 1, 1},
  };
  return shapes;
}

// One pass of one shape, ready to run with any variant, on any device.
enum class ConvWork { forward, data_gradient, weight_gradient };
constexpr const char* name_of(ConvWork work) {
  return work == ConvWork::forward ? "fwd" : work == ConvWork::data_gradient ? "dgrad" : "wgrad";
}

struct ConvRun {
  Conv2d op;
  ConvWork work;
  Tensor x, w, bias, y, dy, gradient;

  ConvRun(const ConvShape& shape, ConvWork pass, Device device = {});
  void run(KernelChoice choice);
  double flops() const { return geometry(op, x, w, y).flops(); }
  double bytes() const { return static_cast<double>(x.bytes() + w.bytes() + y.bytes()); }
};

// Prints `shape, GF/s and percent of the peak of both, ratio` for the three passes, medians of interleaved runs of the hand-written
// and oneDNN's bodies, and geometric means. `only`: shapes whose name contains it. Returns 0.
int print_conv_table(const std::string& only, int rounds);

// The same for the algorithms among which the hand-written 3x3 convolutions are chosen, with small shapes too, the ratio that the model of
// the cost estimates, and whether the choice was the faster one.
int print_conv_choices(const std::string& only, int rounds);

}  // namespace glia::bench
