#pragma once
// UNets as ONNX graphs: the evaluation of models/unet.h by the operators of opset 17.
#include "data/onnx.h"
#include "models/unet.h"

namespace glia {

// `state` is the network's (Module::state_dict()). Input "image" (batch, in_channels, height, width) float32, as the network
// takes it: scaled by data.normalize. Output "probability" (batch, out_channels, height, width), of unet_original (...,
// output_height, output_width): the sigmoid of the logits where there is one channel, else their softmax, each the mean over the
// heads that evaluation takes. InternalError for a tensor that `state` lacks.
OnnxGraph onnx_of_unet(const UnetOptions& options, const StateDict& state);

}  // namespace glia
