#pragma once
// Which masks of two lists have pixels in common, and how many: time in proportion to the runs and the overlaps, memory to the runs
// of one list. 10,000 cells against 10,000 cells make no table of 10^8.
#include <span>
#include <vector>

#include "data/instance.h"
#include "tensor/parallel.h"

namespace glia {

using MaskList = std::vector<const Rle*>;  // not owned, none is null

// Calls f(i, j, pixels) for each pair a[i], b[j] with common pixels, by ascending i, then j. Throws DataError unless all masks are of one size.
void for_each_overlap(const MaskList& a, const MaskList& b, FunctionRef<void(size_t i, size_t j, int64_t pixels)> f);

// The same for boxes (x, y, width, height): calls f(i, j) for each pair that has area in common, by ascending i, then j.
void for_each_overlap(std::span<const Box> a, std::span<const Box> b, FunctionRef<void(size_t i, size_t j)> f);

MaskList pointers_to(std::span<const Rle> masks);

}  // namespace glia
