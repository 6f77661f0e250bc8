#pragma once
// Softmax of the rows of a matrix: y = exp(x - max) / sum exp(x - max). sizes: rows, columns. (In use: kernels/cuda/softmax.cu.)
#include "bench/ladders/ladder.h"

GLIA_LADDER_STEP(softmax_1_thread_a_row)
GLIA_LADDER_STEP(softmax_2_block_a_row)
GLIA_LADDER_STEP(softmax_3_warp_a_row)
GLIA_LADDER_STEP(softmax_4_online)
