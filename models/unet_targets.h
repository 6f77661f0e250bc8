#pragma once
// What UNets are trained towards, from label maps (H, W) int32 with 0 for background.
#include "tensor/tensor.h"

namespace glia {

inline constexpr int64_t num_border_classes = 3;

// The three classes of a label map (H, W) int32 -> (H, W) int64: 0 background, 1 interior, 2 border: pixels whose square
// window of radius `width` holds two different cells.
Tensor border_classes(const Tensor& labels, int64_t width);

// 1 where the label map has a cell, else 0: (H, W) float32.
Tensor cells_of(const Tensor& labels);

// Tells the cells of a mask apart: its pixels (H, W) int32, 0 or 1, get the label of `labels` of the same size, those that are background there
// the label nearest within 3 pixels inside the mask; what is left gets a label of its own.
void name_instances(Tensor& mask, const Tensor& labels);

}  // namespace glia
