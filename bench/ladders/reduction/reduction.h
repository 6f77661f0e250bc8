#pragma once
// The sum of n numbers, in a fixed order: the same bits in every run. sizes: n. (kernels/cuda/reduce.cuh is the general form.)
#include "bench/ladders/ladder.h"

GLIA_LADDER_STEP(reduction_1_one_thread)
GLIA_LADDER_STEP(reduction_2_tree)
GLIA_LADDER_STEP(reduction_3_shuffles)
GLIA_LADDER_STEP(reduction_4_packs)
