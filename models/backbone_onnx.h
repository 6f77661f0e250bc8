#pragma once
// The backbone of Mask R-CNN as an ONNX graph: the evaluation of models/fpn.h by the operators of opset 17.
#include "data/onnx.h"
#include "models/mask_rcnn_options.h"

namespace glia {

// `state` is the whole network's (Module::state_dict()), of which backbone.* is taken. Input "image" (batch, 3, height, width)
// float32, as the network takes it: normalised, padded to sides that are multiples of 32. Outputs "p2" to "p6" (batch,
// fpn_channels, p2_height, p2_width), ... at strides 4 to 64. Batch norms, frozen or not, are those of evaluation.
// InternalError for a tensor that `state` lacks.
OnnxGraph onnx_of_backbone(const MaskRcnnOptions& options, const StateDict& state);

}  // namespace glia
