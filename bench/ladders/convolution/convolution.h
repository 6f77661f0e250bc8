#pragma once
// A 3x3 convolution with padding 1: y (n, h, w, k) = sum over r, s, c of x (n, h, w, c) w (k, 3, 3, c), NHWC and KRSC. sizes: n, h (= w), c,
// k; c a multiple of 32 and k of 64, so that the steps show ideas and not edges (kernels/cuda/conv*.cu has both).
#include "bench/ladders/ladder.h"

GLIA_LADDER_STEP(convolution_1_direct)
GLIA_LADDER_STEP(convolution_2_implicit_gemm)
GLIA_LADDER_STEP(convolution_3_pipeline)
GLIA_LADDER_STEP(convolution_4_tensor_cores)
