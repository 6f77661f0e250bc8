#pragma once
// y (columns, rows) = x (rows, columns) transposed: nothing but memory. sizes: rows, columns. (In use: kernels/cuda's Permute.)
#include "bench/ladders/ladder.h"

GLIA_LADDER_STEP(transpose_1_scattered)
GLIA_LADDER_STEP(transpose_2_tile)
GLIA_LADDER_STEP(transpose_3_padded)
GLIA_LADDER_STEP(transpose_4_packs)
