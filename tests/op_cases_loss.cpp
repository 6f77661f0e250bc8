#include <numeric>

#include "kernels/index.h"
#include "kernels/loss.h"
#include "kernels/loss_region.h"
#include "tests/op_cases.h"

namespace glia::tests {
namespace {

const std::vector<Shape> shapes{{1}, {7}, {3, 5}, {2, 9, 7, 1}, {33}, {0, 4}, {17, 16}, {70001}};
constexpr Reduction all_reductions[] = {Reduction::none, Reduction::mean, Reduction::sum};

const char* name_of(Reduction r) { return r == Reduction::none ? "none" : r == Reduction::mean ? "mean" : "sum"; }

// x in [low, high], t in [0, 1] or like x.
template <class Op>
void element_cases(OpCases& cases, Op op, double low, double high, bool regression) {
  for (const Shape& shape : shapes) {
    for (const Reduction reduction : all_reductions) {
      op.reduction = reduction;
      const OpInput x = uniform(shape, low, high), t = regression ? uniform(shape, low, high) : constant(uniform(shape, 0, 1));
      cases.push_back(op_case(to_string(shape) + " " + name_of(reduction), op, {x, t}));
    }
  }
}

void bce_with_logits_cases(OpCases& cases) {
  for (const Reduction reduction : all_reductions) {
    for (const Shape& shape : shapes) {
      const auto target = constant(uniform(shape, 0, 1)), weight = constant(uniform(shape, 0.25, 3));
      const auto pos_weight = constant(uniform({shape[-1]}, 0.5, 4));
      Shape pixels = shape;
      pixels.set(-1, 1);
      const BceWithLogits op{.reduction = reduction};
      const std::string label = to_string(shape) + " " + name_of(reduction);
      cases.push_back(op_case(label, op, {uniform(shape, -9, 9), target}));
      cases.push_back(op_case(label + " weight", op, {uniform(shape, -9, 9), target, weight}));
      cases.push_back(op_case(label + " pos_weight", op, {uniform(shape, -9, 9), target, absent(), pos_weight}));
      cases.push_back(op_case(label + " weight, pos_weight", op, {uniform(shape, -9, 9), target, weight, pos_weight}));
      cases.push_back(
          op_case(label + " pixel weight, one pos_weight", op,
                  {uniform(shape, -9, 9), target, constant(uniform(pixels, 0.25, 3)), constant(uniform({1}, 0.5, 4))}));
    }
    const auto sure = uniform({2, 33}, -150, 150), target = constant(uniform({2, 33}, 0, 1));
    cases.push_back(
        op_case(std::string("sure of itself ") + name_of(reduction), BceWithLogits{.reduction = reduction}, {sure, target}));
  }
}

void cross_entropy_cases(OpCases& cases) {
  const std::vector<Shape> logits{{7, 17},   {2, 5, 6, 2}, {1, 9, 11, 3}, {4, 1},   {0, 5},   {3, 8},  {5, 81},
                                  {3000, 4}, {33},         {6, 20},       {70, 36}, {3, 300}, {2, 259}};
  for (const Shape& shape : logits) {
    const int64_t classes = shape[-1];
    const Shape pixels(shape.dims().first(size_t(shape.rank() - 1)));
    const auto x = uniform(shape, -5, 5), target = integers(pixels, classes);
    const auto class_weight = constant(uniform({classes}, 0.25, 3)), pixel_weight = constant(uniform(pixels, 0.25, 11));
    const std::string label = to_string(shape);
    for (const Reduction reduction : all_reductions) {
      CrossEntropy op{.reduction = reduction};
      const std::string reduced = label + " " + name_of(reduction);
      cases.push_back(op_case(reduced, op, {x, target}));
      cases.push_back(op_case(reduced + " class weight", op, {x, target, class_weight}));
      cases.push_back(op_case(reduced + " pixel weight", op, {x, target, absent(), pixel_weight}));
      op.ignore_index = 1;
      op.label_smoothing = 0.1;
      cases.push_back(
          op_case(reduced + " smoothed, both weights, one class ignored", op, {x, target, class_weight, pixel_weight}));
      cases.push_back(op_case(reduced + " smoothed, class weight, one class ignored", op, {x, target, class_weight}));
    }
  }
}

void region_cases(OpCases& cases) {
  const std::vector<Shape> regions{{1}, {1, 7}, {3, 5}, {2, 9, 7, 1}, {4, 33}, {0, 4}, {2, 8, 8, 3}, {2, 40000}, {70001}};
  for (const Shape& shape : regions) {
    for (const Per per : {Per::batch, Per::sample}) {
      const std::string label = to_string(shape) + (per == Per::batch ? " batch" : " sample");
      const auto x = uniform(shape, -4, 4), p = uniform(shape, 0.01, 0.99), t = constant(uniform(shape, 0, 1));
      cases.push_back(op_case(label, DiceLoss{.per = per}, {p, t}));
      cases.push_back(op_case(label + " squared", DiceLoss{.per = per, .smooth = 1e-5, .squared = true}, {p, t}));
      cases.push_back(op_case(label, BceDiceLoss{.per = per, .bce_weight = 0.5}, {x, t}));
      cases.push_back(op_case(label, TverskyLoss{.per = per, .alpha = 0.3, .beta = 0.7}, {x, t}));
    }
  }
}

// Distinct logits moved off the grid, so that no two errors are equal and none is 0; a 0/1 mask as the target.
void lovasz_cases(OpCases& cases) {
  const std::vector<Shape> regions{{1}, {1, 7}, {3, 5}, {2, 9, 7, 1}, {4, 33}, {0, 4}, {2, 8, 8, 3}, {2, 5000}, {1, 9000}};
  const auto add = [&](const Shape& shape, Per per, const char* label, auto target) {
    OpCase c = op_case(to_string(shape) + label, LovaszHinge{.per = per}, {distinct(shape), mask(shape)});
    c.run = [per, target](std::span<const Tensor> in) {
      const Device device = in[0].device();
      Tensor every(Shape{in[0].dim(0)}, DType::int64);
      std::iota(every.data<int64_t>(), every.data<int64_t>() + every.size(), int64_t{0});
      const Tensor moved = Tensor::full(in[0].shape(), 0.03, in[0].dtype(), device);
      const Tensor x = apply(IndexAdd{.axis = 0}, moved, every.to(device), in[0]);
      return std::vector<Tensor>{apply(LovaszHinge{.per = per}, x, target(in[1]).cast(in[0].dtype()))[0]};
    };
    cases.push_back(c);
  };
  for (const Shape& shape : regions) {
    add(shape, Per::batch, " batch", [](const Tensor& t) { return t; });
    add(shape, Per::sample, " sample", [](const Tensor& t) { return t; });
  }
  for (const double value : {0, 1})
    add({3, 50}, Per::sample, value == 0 ? " nothing there" : " only objects",
        [value](const Tensor& t) { return Tensor::full(t.shape(), value, DType::float32, t.device()); });
}

const RegisterOpCases loss([](OpCases& cases) {
  element_cases(cases, Bce{}, 0.01, 0.99, false);
  element_cases(cases, Bce{.clip = 0.2}, 0.01, 0.99, false);
  element_cases(cases, FocalLoss{}, -6, 6, false);
  element_cases(cases, FocalLoss{.alpha = -1, .gamma = 0.5}, -6, 6, false);
  element_cases(cases, FocalLoss{.alpha = 0.5, .gamma = 3}, -6, 6, false);
  element_cases(cases, MseLoss{}, -3, 3, true);
  element_cases(cases, L1Loss{}, -3, 3, true);
  element_cases(cases, SmoothL1Loss{}, -3, 3, true);
  element_cases(cases, SmoothL1Loss{.beta = 0.11}, -3, 3, true);
  element_cases(cases, SmoothL1Loss{.beta = 0}, -3, 3, true);
  element_cases(cases, HuberLoss{.delta = 0.5}, -3, 3, true);
  bce_with_logits_cases(cases);
  cross_entropy_cases(cases);
  region_cases(cases);
  lovasz_cases(cases);
});

}  // namespace
}  // namespace glia::tests
