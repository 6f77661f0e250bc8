#pragma once
// torchvision's maskrcnn_resnet50_fpn and maskrcnn_resnet50_fpn_v2 as options of the same Mask R-CNN, for inference with weights trained
// there: its layers, names and rules where they differ from detectron2's. (Training follows detectron2's rules.)
#include <span>

#include "models/detection.h"
#include "models/mask_rcnn_options.h"
#include "tensor/tensor.h"

namespace glia {

enum class TorchvisionModel { v1, v2 };  // v2: batch norms in all heads, four convolutions in the box head, two in the RPN

// num_classes without background. The published weights of v1 (COCO_V1) want resnet.norm_eps 0.
MaskRcnnOptions torchvision_options(TorchvisionModel model, int64_t num_classes);

// Image (H, W, 3) in [0, 1], RGB -> (1, H', W', 3): normalised, resized bilinearly without antialias so that the shorter side is min_size,
// or the longer max_size if that is less, then padded to multiples of 32. size: before padding.
struct TorchvisionInput {
  Tensor image;
  std::array<int64_t, 2> size{};
};
TorchvisionInput torchvision_input(const Tensor& image, double min_size, double max_size);

// Probabilities (D, height, width) from maps (D, M, M) and boxes (D, 4) in pixels of that image: maps are padded by a pixel, boxes widened
// accordingly and cut to whole pixels.
Tensor torchvision_paste(const Tensor& mask_probs, const Tensor& boxes, int64_t height, int64_t width);

}  // namespace glia
