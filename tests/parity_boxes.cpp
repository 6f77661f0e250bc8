// Box geometry, matching and suppression of detectron2 and torchvision.
#include <doctest/doctest.h>

#include "kernels/anchors.h"
#include "kernels/boxes.h"
#include "kernels/loss.h"
#include "kernels/matcher.h"
#include "kernels/nms.h"
#include "tests/parity.h"

namespace glia::tests {
namespace {

std::vector<double> numbers(const rapidjson::Value& list) {
  std::vector<double> values;
  for (const auto& v : list.GetArray()) values.push_back(v.GetDouble());
  return values;
}

std::array<double, 4> weights_of(const ParityCase& c) {
  std::array<double, 4> weights;
  const auto list = numbers(c.params()["weights"]);
  std::copy_n(list.begin(), 4, weights.begin());
  return weights;
}

void iou_loss(const ParityCase& c, BoxIouLoss::Kind kind) {
  const Tensor pred = c.grad_input("pred");
  const Tensor each = apply(BoxIouLoss{.kind = kind}, pred, c.input("target"));
  c.check("each", each);
  backward(each, Tensor::full(each.shape(), 1));  // the gradient of the sum
  c.check_grad("pred", pred);
}

}  // namespace

PARITY_OP(anchors) {
  const auto &sizes = c.params()["sizes"], &ratios = c.params()["aspect_ratios"], &grids = c.params()["grids"];
  const auto strides = c.integers("strides");
  for (unsigned level = 0; level < strides.size(); ++level) {
    const double stride = double(strides[level]);
    const Anchors of{.sizes = numbers(sizes[sizes.Size() == 1 ? 0 : level]),
                     .aspect_ratios = numbers(ratios[ratios.Size() == 1 ? 0 : level]),
                     .stride = {stride, stride},
                     .offset = c.number("offset", 0),
                     .height = grids[level][0].GetInt64(),
                     .width = grids[level][1].GetInt64()};
    c.check(fmt::format("anchors.{}", level), anchors(of));
  }
}

PARITY_OP(box2box_encode) { c.check("deltas", apply(BoxEncode{.weights = weights_of(c)}, c.input("src"), c.input("dst"))); }

PARITY_OP(box2box_decode) {
  const BoxDecode op{.weights = weights_of(c), .scale_clamp = c.number("scale_clamp", 0)};
  c.check("boxes", apply(op, c.input("deltas"), c.input("boxes")));
}

PARITY_OP(box_clip) {
  const Tensor boxes = apply(BoxClip{.height = c.integer("height", 0), .width = c.integer("width", 0)}, c.input("boxes"));
  c.check("boxes", boxes);
  const Tensor nonempty({boxes.dim(0)}, DType::uint8);
  const float smallest = float(c.number("min_size", 0));
  for (int64_t i = 0; i < boxes.dim(0); ++i) {
    const auto b = box::load(boxes.data<float>() + 4 * i);
    nonempty.data<uint8_t>()[i] = b.x2 - b.x1 > smallest && b.y2 - b.y1 > smallest;
  }
  c.check("nonempty", nonempty);
}

PARITY_OP(smooth_l1) {
  const double beta = c.number("beta", -1);
  const Tensor target = c.input("target");
  c.check("each", apply(SmoothL1Loss{.reduction = Reduction::none, .beta = beta}, c.input("pred"), target));
  const Tensor pred = c.grad_input("pred");
  const Tensor sum = apply(SmoothL1Loss{.reduction = Reduction::sum, .beta = beta}, pred, target);
  c.check("sum", sum);
  backward(sum, Tensor::full(sum.shape(), 1));
  c.check_grad("pred", pred);
}

PARITY_OP(giou_loss) { iou_loss(c, BoxIouLoss::Kind::giou); }
PARITY_OP(diou_loss) { iou_loss(c, BoxIouLoss::Kind::diou); }
PARITY_OP(ciou_loss) { iou_loss(c, BoxIouLoss::Kind::ciou); }

PARITY_OP(pairwise_iou) { c.check("iou", apply(PairwiseIou{}, c.input("a"), c.input("b"))); }

PARITY_OP(matcher) {
  const auto shape = c.integers("shape");
  const Tensor given = c.input("iou");  // absent without ground truth
  const Matcher op{.thresholds = numbers(c.params()["thresholds"]),
                   .labels = c.integers("labels"),
                   .allow_low_quality = c.flag("allow_low_quality_matches", false)};
  const auto [matches, labels] = apply(op, given ? given : Tensor({shape[0], shape[1]}));
  c.check("matches", matches);
  c.check("labels", labels);
}

PARITY_OP(batched_nms) {
  const Tensor boxes = c.input("boxes"), scores = c.input("scores"), groups = c.input("groups");
  const double threshold = c.number("threshold", -1);
  const auto as_tensor = [](const std::vector<int64_t>& list) { return Tensor::from({int64_t(list.size())}, list); };
  c.check("keep", as_tensor(batched_nms(boxes, scores, groups, threshold)));
  const auto [keep, count] = apply(Nms{.threshold = threshold}, boxes, scores, groups);
  c.check("keep", keep.slice(0, count.data<int64_t>()[0]));
}

}  // namespace glia::tests
