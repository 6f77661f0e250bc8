// torchvision's two Mask R-CNNs: inference.
#include <doctest/doctest.h>

#include "autograd/operators.h"
#include "models/mask_rcnn.h"
#include "models/mask_rcnn_torchvision.h"
#include "models/weight_names.h"
#include "tests/mask_rcnn_fixture.h"

namespace glia::tests {
namespace {

Tensor rgb(const Tensor& gray) {
  Tensor image({gray.dim(0), gray.dim(1), 3});
  for (int64_t i = 0; i < image.size(); ++i) image.data<float>()[i] = float(gray.data<uint8_t>()[i / 3]) / 255;
  return image;
}

void check_torchvision(const ParityCase& c, TorchvisionModel model) {
  MaskRcnnOptions options = torchvision_options(model, c.integer("num_classes_with_background", 0) - 1);
  options.rpn.nms_thresh = c.number("rpn_nms_thresh", 0);
  options.rpn.pre_nms_topk_test = c.integer("rpn_pre_nms_top_n_test", 0);
  options.rpn.post_nms_topk_test = c.integer("rpn_post_nms_top_n_test", 0);
  options.roi_heads.score_thresh_test = c.number("box_score_thresh", 0);
  options.roi_heads.nms_thresh_test = c.number("box_nms_thresh", 0);
  options.roi_heads.detections_per_image = c.integer("box_detections_per_img", 0);
  MaskRcnn net(options);
  StateDict state = from_torchvision(formula_state(c), model);
  for (const NamedTensor& b : net.buffers())
    if (b.name.ends_with("num_batches_tracked")) state[b.name] = *b.tensor;  // weights by formula are floating-point numbers
  net.load_state_dict(state, c.name());
  net.eval();

  const NoGrad no_grad;
  const Tensor gray = c.input("image");
  const TorchvisionInput input = torchvision_input(rgb(gray), c.number("min_size", 0), c.number("max_size", 0));
  c.check("network_input", input.image, to_nchw);
  const Pyramid features = net.backbone(input.image);
  for (size_t l = 0; l < 5; ++l) c.check(l == 4 ? "features.pool" : fmt::format("features.{}", l), features[l], to_nchw);
  const std::array<int64_t, 2> size{gray.dim(0), gray.dim(1)};
  const Detections found = rescaled(net.detect(input.image, std::vector{input.size})[0], input.size, size);
  c.check("boxes", found.boxes);
  c.check("scores", found.scores);
  Tensor labels = found.classes.clone();  // background is 0 there
  for (int64_t& label : labels.values<int64_t>()) ++label;
  c.check("labels", labels);
  c.check("masks", torchvision_paste(found.mask_probs, found.boxes, size[0], size[1]));
}

PARITY_MODEL(torchvision_maskrcnn_resnet50_fpn) { check_torchvision(c, TorchvisionModel::v1); }
PARITY_MODEL(torchvision_maskrcnn_resnet50_fpn_v2) { check_torchvision(c, TorchvisionModel::v2); }

}  // namespace
}  // namespace glia::tests
