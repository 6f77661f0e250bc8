#pragma once
// Names of Mask R-CNN's tensors in other frameworks' files. Here they are detectron2's; torchvision has others, and the
// background is its first class instead of the last, with boxes and masks that nothing uses. (Caffe2's names: data/weights.h.)
#include "data/weights.h"
#include "models/mask_rcnn_torchvision.h"
#include "nn/module.h"

namespace glia {

// torchvision's name -> detectron2's. Names of old files (without ".0" in the heads) are understood too.
std::string name_from_torchvision(std::string name, TorchvisionModel model);
// And back, as torchvision's state_dict() has it today.
std::string name_to_torchvision(std::string name, TorchvisionModel model);

// Names and rows of torchvision's Mask R-CNN (whichever of the two) as they are here.
StateDict from_torchvision(const StateDict& state, TorchvisionModel model);
Weights from_torchvision(const Weights& weights, TorchvisionModel model);

// The other way; the rows of the background in bbox_pred and the mask logits, which nothing reads, are 0. DataError for a network
// whose boxes or masks are the same for all classes, which torchvision doesn't have.
StateDict to_torchvision(const StateDict& state);

// Weights with this program's names: torchvision's Mask R-CNN and ResNet (without its classifier) and Keras' layers are renamed,
// all else is as it was. DataError for a model of Cellpose 4, whose network is another one.
Weights with_own_names(const Weights& weights);

}  // namespace glia
