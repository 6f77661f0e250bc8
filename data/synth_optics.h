#pragma once
// The optical half of the synthetic pictures: planes of floats, blur, noise, and the two microscopes.
#include <cstdint>
#include <vector>

#include "tensor/random.h"
#include "tensor/tensor.h"

namespace glia::synth {

// A plane of floats, row-major.
struct Plane {
  int64_t height = 0, width = 0;
  std::vector<float> values;

  Plane(int64_t h, int64_t w, float value = 0) : height(h), width(w), values(static_cast<size_t>(h * w), value) {}
  float& at(int64_t y, int64_t x) { return values[static_cast<size_t>(y * width + x)]; }
  bool contains(int64_t y, int64_t x) const { return y >= 0 && y < height && x >= 0 && x < width; }
};

// Nearly Gaussian: three box filters per direction, edges replicated. sigma in pixels; below 0.4 nothing happens.
void blur(Plane& plane, double sigma);

// White noise, mean 0, standard deviation 1 (the sum of four uniform numbers), a pure function of (seed, stream).
Plane white_noise(int64_t height, int64_t width, uint64_t seed, uint64_t stream);
// The same blurred and scaled back to standard deviation 1: texture of about `sigma` pixels.
Plane smooth_noise(int64_t height, int64_t width, double sigma, uint64_t seed, uint64_t stream);

// plane += amplitude * exp(-r^2 / (2 sigma^2)) around (x, y).
void add_dot(Plane& plane, double x, double y, double sigma, double amplitude);

// Positive phase contrast (Zernike 1942). The field behind the specimen is u = exp(i phase); its undiffracted part u0 is, because
// the phase ring has a width, a local mean of u (0.75 of it over `fringe`, 0.25 over `halo` pixels); the ring delays u0 by a
// quarter wave and passes the fraction `transmission` of its amplitude:  I = |u - u0 - i t u0|^2 / t^2,  1 where nothing stands.
// The local mean is what makes bright halos around cells and fades the inside of large ones; a phase beyond a half wave turns
// bright.
struct PhaseContrast {
  double fringe = 3, halo = 12;
  double transmission = 0.6;
};
Plane phase_contrast(const Plane& phase, const PhaseContrast& optics);

// 8-bit picture: rounded and saturated. (H, W, 1)
Tensor to_picture(const Plane& plane);

}  // namespace glia::synth
