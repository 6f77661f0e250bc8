#pragma once
// Segmenter: a network together with its way from images and label maps to inputs and targets, and from outputs to instances. The
// program knows every system by this interface alone.
//
//   fit        image and label map or instances -> what the network is trained on: cached by the loader
//   (augment)  flips, crops ...: the loader's work
//   collate    fitted examples -> the tensors of a batch; called on the loader's workers
//   losses     tensors of a batch -> named losses, recorded for backward
//   predict    image -> instances
#include <array>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "data/instance.h"
#include "data/loader.h"
#include "data/onnx.h"
#include "nn/module.h"

namespace glia {

using NamedLosses = std::vector<std::pair<std::string, Tensor>>;
using NamedValues = std::vector<std::pair<std::string, double>>;

struct Prediction {
  Tensor
      foreground;  // (H, W) float32: probability that a pixel belongs to any cell, at the image's size; absent where a system has none
  std::vector<Instance> instances;  // at the image's size; they do not overlap unless the system's outputs do
  // Of Cellpose alone, for its _seg.npy:
  Tensor maps;          // (H, W, 3): what the network said, at the image's size
  double diameter = 0;  // that cells were taken to have, in pixels
};

struct OnnxExport {
  std::string part;  // of the system, for people: "the network"
  OnnxGraph graph;
};

class Segmenter {
 public:
  virtual ~Segmenter() = default;

  virtual Module& module() = 0;
  // Takes a checkpoint's weights, and what the system keeps beside them. DataError as Module::load_state_dict.
  virtual void load(const StateDict& state, std::string_view source) { module().load_state_dict(state, source); }

  // Whether examples carry instances, whose masks are whole where they overlap (read_detection_example), rather than label maps.
  virtual bool takes_instances() const { return false; }

  // Input images (H, W, C) of any type that readers give, label maps (H, W) int32 or absent. Thread-safe.
  virtual Example fit(const Example& example) const = 0;
  virtual std::array<int64_t, 2> crop() const { return {0, 0}; }  // of label maps: the random window of training; 0, 0: none
  virtual Augmenter augmenter() const { return {}; }              // instead of the loader's own augmentation, where there is one
  // What the system takes from its training data before it starts (Cellpose: how large cells are).
  virtual void study(const Dataset&) {}
  virtual std::vector<Tensor> collate(std::span<const Example> examples) const = 0;

  virtual void infer(
      std::span<const Tensor> batch) = 0;  // prediction from a collated batch on; the results are dropped: for timing
  // Of the losses those whose examples do not hang on what the network says, so that rounding cannot choose others; empty: all.
  virtual std::vector<std::string> stable_losses() const { return {}; }
  virtual NamedLosses losses(std::span<const Tensor> batch) = 0;  // brings the batch to the module's device if it is not there

  // Predicts one unfitted example and scores it against its label map or instances at the network's resolution: loss (the sum of the
  // terms), dice and the like. Eval mode and NoGrad are the caller's.
  virtual NamedValues validate(const Example& example, Prediction& prediction) = 0;
  virtual std::vector<std::string> metric_names() const = 0;  // of the values that validate gives
  virtual Prediction predict(const Tensor& image) = 0;
  // The same for several images, which go through the network together where that is possible. Results are those of predict().
  virtual std::vector<Prediction> predict_batch(std::span<const Tensor> images) {
    std::vector<Prediction> predictions;
    for (const Tensor& image : images) predictions.push_back(predict(image));
    return predictions;
  }

  // The network of evaluation, or a part of it, as an ONNX graph, without what is before and after it. DataError where there is no
  // export for the system.
  virtual OnnxExport onnx() {
    throw DataError("there is no export to ONNX for this system; there is for the UNets and for Mask R-CNN's backbone");
  }
};

}  // namespace glia
