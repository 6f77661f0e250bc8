#pragma once
// What the cases of the Mask R-CNN fixtures have in common: options by detectron2's key names, weights and inputs by formula,
// gradients by parameter name.
#include <string>
#include <vector>

#include "models/detection.h"
#include "models/mask_rcnn_options.h"
#include "tests/parity.h"

namespace glia::tests {

// A module as the child NAME of nothing else, so that its parameters have the names of the whole model.
struct Part : Module {
  Part(std::string name, Module& child) { add(std::move(name), child); }
};

// `config`: params.config of a case; keys that are not in it keep detectron2's defaults.
MaskRcnnOptions mask_rcnn_options(const rapidjson::Value& config);

StateDict formula_state(const ParityCase& c);
void load_formula_weights(const ParityCase& c, Module& root);

// The tensors of params[key] = [[name, shape, scale, offset], ...], images permuted to NHWC. With `leaves`, they want gradients.
struct FormulaTensor {
  std::string name;
  Tensor tensor;
};
std::vector<FormulaTensor> formula_tensors(const ParityCase& c, const char* key, bool leaves = false);

// The images uint8 (H, W) of gray values as three channels less the mean, padded at the bottom and the right to multiples of 32.
Tensor gray_batch(std::span<const Tensor> images, const rapidjson::Value& config);

// `rms_share`: see ParityCase::check_key. Checks gin/PARAMETER for each that the case has, out/grad_norm, and that just the parameters of params.grad_names have a gradient.
void check_parameter_gradients(const ParityCase& c, Module& root, double rms_share = 0);

std::vector<std::array<int64_t, 2>> image_sizes(const ParityCase& c, const char* key = "image_sizes");

// The fixtures' rule: of n candidates those at floor(j n / k). Checks anchors against the case's sampled_pos.I and sampled_neg.I.
class EvenSampler : public Sampler {
 public:
  explicit EvenSampler(const ParityCase& c) : case_(c) {}
  std::vector<int64_t> pick(Stage stage, int64_t image, std::span<const int64_t> candidates, int64_t count) override;

 private:
  const ParityCase& case_;
  std::map<int64_t, int> calls_;  // for anchors, by image: positives, then negatives
};

// Compares the case's params.storage with `got`.
void check_storage(const ParityCase& c, const std::vector<std::pair<std::string, double>>& got);

}  // namespace glia::tests
