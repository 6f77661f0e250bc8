#pragma once
// What `glia bench step RECIPE --explain-choice` prints.
#include <span>

#include "kernels/conv.h"

namespace glia::bench {

// Times the algorithms that could do each of these passes, as medians of interleaved rounds, filters not kept, without epilogue, and
// prints a line a pass: the chosen one, how many times as fast as the direct product the model of the cost takes Winograd's algorithm to be
// (where it is considered), the others, and * where one of them was faster.
void print_explained_choices(std::span<const cpu::ConvChoice> choices, int rounds);

}  // namespace glia::bench
