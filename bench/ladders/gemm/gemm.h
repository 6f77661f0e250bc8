#pragma once
// C (m, n) = A (m, k) B (k, n), row-major. sizes: m, n, k; multiples of 64 from step 3 on, so that the steps show ideas and not edges
// (kernels/cuda/gemm.cu has both).
#include "bench/ladders/ladder.h"

GLIA_LADDER_STEP(gemm_1_rows)
GLIA_LADDER_STEP(gemm_2_coalesced)
GLIA_LADDER_STEP(gemm_3_shared)
GLIA_LADDER_STEP(gemm_4_registers)
GLIA_LADDER_STEP(gemm_5_pipeline)
GLIA_LADDER_STEP(gemm_6_tensor_cores)
