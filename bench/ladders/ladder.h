#pragma once
// Ladders: one computation as a row of kernels, from the obvious one to the one in use, each with one idea more than the one before.
// A step is one file; its opening comment says what it adds and why. docs/kernels.md walks through one of them.
#include <array>
#include <span>
#include <vector>

#include "tensor/tensor.h"

namespace glia::ladders {

// What a step is given: float32 tensors on the device, and sizes whose meaning the ladder says.
struct Problem {
  std::vector<Tensor> in;
  Tensor out;
  std::array<int64_t, 4> size{};
};

using StepBody = void(const Problem&);

// One source compiled twice, as all kernels are; `cuda` is null in a program without CUDA.
struct Step {
  const char* name;
  StepBody* emulated;
  StepBody* cuda;
  double tolerance = 1e-5;  // of the largest |value|: 1e-2 where the factors are rounded to TF32
};

struct Ladder {
  const char* name;
  const char* what;
  std::array<int64_t, 4> small, large;               // sizes for the emulator and for a GPU
  Problem (*make)(const std::array<int64_t, 4>&);    // random numbers, on the host
  std::vector<double> (*expected)(const Problem&);   // of `out`, in double, from the host's tensors
  double (*flops)(const std::array<int64_t, 4>&);    // 0 where memory is what counts
  double (*bytes)(const std::array<int64_t, 4>&);    // that have to move at least
  std::span<const Step> steps;
};

extern const Ladder gemm, convolution, reduction, softmax, transpose;

}  // namespace glia::ladders

// Declares a step of both worlds: GLIA_LADDER_STEP(gemm_1_naive)
#define GLIA_LADDER_STEP(function)                              \
  namespace glia::emulated { ladders::StepBody function; }      \
  namespace glia::cuda { ladders::StepBody function; }
#if defined(GLIA_WITH_CUDA)
#define GLIA_STEP(function, ...) {#function, emulated::function, cuda::function, ##__VA_ARGS__}
#else
#define GLIA_STEP(function, ...) {#function, emulated::function, nullptr, ##__VA_ARGS__}
#endif
