#include "kernels/norm.h"
#include "tests/op_cases.h"

namespace glia::tests {
namespace {

const std::vector<Shape> images{{2, 3, 4, 1}, {1, 3, 5, 3},   {2, 5, 3, 8},    {3, 1, 1, 17},  {1, 4, 4, 64}, {2, 3, 3, 130},
                                {0, 3, 3, 4}, {2, 0, 3, 4},   {2, 40, 37, 3},  {2, 17, 9, 48}, {5, 7},        {1, 30, 30, 96},
                                {2, 3, 2, 0}, {3, 2, 2, 100}, {1, 100, 90, 1}, {2, 1, 2, 600}};

const RegisterOpCases batch_norm([](OpCases& cases) {
  for (const Shape& s : images) {
    const Shape c{s[-1]};
    const std::vector<OpInput> train{normal(s), uniform(c, 0.5, 2), normal(c)};
    const std::vector<OpInput> eval{normal(s), uniform(c, 0.5, 2), normal(c), constant(normal(c)), constant(uniform(c, 0.25, 2))};
    cases.push_back(op_case("train " + to_string(s), BatchNorm{}, train, 1e-4));
    cases.push_back(op_case("train relu " + to_string(s), BatchNorm{.relu = true}, train, 1e-4));
    cases.push_back(op_case("eval " + to_string(s), BatchNorm{.train = false}, eval));
    cases.push_back(op_case("eval relu " + to_string(s), BatchNorm{.eps = 1e-3, .train = false, .relu = true}, eval));
  }
  const Shape s{2, 7, 5, 20};
  cases.push_back(op_case("no gamma, no beta", BatchNorm{}, {normal(s)}, 1e-4));
  cases.push_back(op_case("mean 100", BatchNorm{}, {uniform(s, 99, 101), normal({20}), normal({20})}, 2e-4));
});

const RegisterOpCases running_stats([](OpCases& cases) {
  for (const int64_t channels : {0, 1, 37}) {
    const OpInput v = uniform({channels}, 0.5, 2);
    OpCase c{.op = "running_stats", .label = std::to_string(channels), .inputs = {v, v, v, v}, .run = {}};
    c.has_gradient = false;
    c.on_device = true;
    c.run = [](std::span<const Tensor> in) {
      const Tensor mean = in[2].clone(), variance = in[3].clone();
      update_running_stats({.count = 9, .momentum = 0.25}, in[0], in[1], mean, variance);
      return std::vector<Tensor>{mean, variance};
    };
    cases.push_back(c);
  }
});

const RegisterOpCases group_norm([](OpCases& cases) {
  for (const Shape& s : images)
    for (const int64_t groups : {int64_t(1), int64_t(4), std::max<int64_t>(s[-1], 1)}) {
      if (s[-1] % groups) continue;
      const Shape c{s[-1]};
      cases.push_back(op_case(to_string(s) + " groups " + std::to_string(groups), GroupNorm{.groups = groups},
                              {normal(s), uniform(c, 0.5, 2), normal(c)}, 1e-4));
    }
  cases.push_back(op_case("no gamma, no beta", GroupNorm{.groups = 2}, {normal({2, 3, 3, 6})}, 1e-4));
});

const RegisterOpCases layer_norm([](OpCases& cases) {
  for (const Shape& s : images) {
    const Shape c{s[-1]};
    if (c[0] > 1) cases.push_back(op_case(to_string(s), LayerNorm{}, {normal(s), uniform(c, 0.5, 2), normal(c)}, 1e-4));
  }
  cases.push_back(
      op_case("two axes", LayerNorm{.axes = 2, .eps = 1e-3}, {normal({4, 3, 7}), normal({3, 7}), normal({3, 7})}, 1e-4));
  cases.push_back(op_case("no gamma, no beta", LayerNorm{}, {normal({5, 19})}, 1e-4));
  for (const Shape& s : {Shape{2200, 260}, Shape{3, 2500}, Shape{2, 5000}, Shape{3, 9001}})  // many rows, long rows, and too long for registers
    cases.push_back(op_case(to_string(s), LayerNorm{}, {normal(s), uniform({s[1]}, 0.5, 2), normal({s[1]})}, 1e-4));
});

}  // namespace
}  // namespace glia::tests
