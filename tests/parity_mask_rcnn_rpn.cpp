// The region proposal network against detectron2.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>

#include "autograd/operators.h"
#include "autograd/view.h"
#include "kernels/boxes.h"
#include "kernels/index.h"
#include "kernels/sort.h"
#include "models/rpn.h"
#include "tests/mask_rcnn_fixture.h"

namespace glia::tests {
namespace {

RpnOptions rpn_options(const ParityCase& c) {
  RpnOptions o;
  o.batch_size_per_image = c.integer("batch_size_per_image", 0);
  o.pre_nms_topk_train = c.integer("pre_nms_topk", 0);
  o.post_nms_topk_train = c.integer("post_nms_topk", 0);
  o.nms_thresh = c.number("nms_thresh", 0);
  return o;
}

// Predictions of all anchors of both images, (N, H W A, ...), decoded by each anchor.
void check_predictions(const ParityCase& c, const Rpn& rpn, const RpnPredictions& predictions) {
  const NoGrad no_grad;
  const Rpn::AnchorGrid& grid = rpn.anchors(predictions);
  for (size_t l = 0; l < predictions.logits.size(); ++l) {
    const std::string level = c.params()["levels"][unsigned(l)].GetString();
    c.check("logits." + level, predictions.logits[l]);
    c.check("deltas." + level, predictions.deltas[l]);
    const Tensor one = grid.boxes.slice(grid.first[l], grid.first[l + 1]);
    const Tensor deltas = predictions.deltas[l].detach().reshape({2 * one.dim(0), 4});
    c.check("decoded." + level, apply(BoxDecode{}, deltas, concat({one, one}, 0)));
  }
}

PARITY_MODEL(rpn_train) {
  const auto features = formula_tensors(c, "formula_inputs", true);
  Rpn rpn(rpn_options(c), features[0].tensor.dim(3));
  Part root("proposal_generator", rpn);
  load_formula_weights(c, root);
  Pyramid pyramid;
  for (size_t l = 0; l < 5; ++l) pyramid[l] = features[l].tensor;
  const RpnPredictions predictions = rpn.predict(pyramid);
  check_predictions(c, rpn, predictions);

  GroundTruth truth;
  truth.boxes = concat({c.input("gt_boxes.0"), c.input("gt_boxes.1")}, 0);
  truth.first = {0, c.input("gt_boxes.0").dim(0), truth.boxes.dim(0)};
  EvenSampler sampler(c);
  for (int64_t n = 0; n < 2; ++n) {
    const auto labels =
        rpn.match(rpn.anchors(predictions), truth.boxes.slice(truth.first[size_t(n)], truth.first[size_t(n) + 1]));
    c.check(fmt::format("labels.{}", n), labels.labels);
  }
  const NamedLosses losses = rpn.losses(predictions, truth, sampler);
  for (const auto& [name, loss] : losses) c.check(name, loss);
  check_storage(c, rpn.statistics());
  backward(losses[0].second + losses[1].second);
  for (const auto& [name, leaf] : features) {
    // None where no anchor of the level was sampled: there detectron2 has zeros.
    const Tensor gradient = grad_of(leaf) ? grad_of(leaf) : Tensor::zeros(leaf.shape());
    c.check_key("gin/" + name, permuted(gradient, to_nchw));
  }
  check_parameter_gradients(c, root);

  const auto proposals = rpn.proposals(predictions, image_sizes(c));
  for (size_t n = 0; n < 2; ++n) {
    c.check(fmt::format("proposals.{}", n), proposals[n].boxes);
    c.check(fmt::format("objectness.{}", n), proposals[n].logits);
  }
}

PARITY_OP(rpn_proposals) {
  std::vector<Tensor> boxes, logits;
  std::vector<int64_t> level;
  for (int64_t l = 0; l < c.integer("levels", 0); ++l) {
    const Tensor all = c.input(fmt::format("logits.{}", l));
    const auto [best, place] = apply(TopK{.k = std::min(c.integer("pre_nms_topk", 0), all.size()), .axis = 0}, all);
    boxes.push_back(apply(IndexSelect{}, c.input(fmt::format("boxes.{}", l)), place));
    logits.push_back(best);
    level.insert(level.end(), size_t(best.size()), l);
  }
  const ProposalRule rule{c.number("nms_thresh", 0), c.number("min_size", -1), c.integer("post_nms_topk", 0), true};
  const auto size = c.integers("image_size");
  const Proposals got = select_proposals(rule, concat(boxes, 0), concat(logits, 0),
                                         Tensor::from<int64_t>({int64_t(level.size())}, level), {size[0], size[1]});
  c.check("logits", got.logits);
  // Levels share some of their scores; which of equal ones comes first is not specified (detectron2 sorts them without stability).
  const Tensor want = c.load("out/boxes");
  REQUIRE(same_shape(got.boxes, want));
  const Tensor reordered = Tensor::zeros({want.dim(0), 4});
  std::vector<bool> taken(size_t(want.dim(0)));
  for (int64_t i = 0; i < want.dim(0); ++i) {
    for (int64_t j = std::max<int64_t>(0, i - 2); j < std::min(want.dim(0), i + 3); ++j) {
      const float* box = got.boxes.data<float>() + 4 * j;
      const bool same = got.logits.data<float>()[i] == got.logits.data<float>()[j] && !taken[size_t(j)] &&
                        std::abs(box[0] - want.data<float>()[4 * i]) < 1e-3F &&
                        std::abs(box[1] - want.data<float>()[4 * i + 1]) < 1e-3F;
      if (!same) continue;
      taken[size_t(j)] = true;
      std::copy_n(box, 4, reordered.data<float>() + 4 * i);
      break;
    }
  }
  CHECK(std::count(taken.begin(), taken.end(), true) == want.dim(0));
  c.check("boxes", reordered);
}

}  // namespace
}  // namespace glia::tests
