// Decisions (matches, labels, what NMS keeps) are the same in float32 and double where the inputs leave a margin: those of random boxes
// were looked at. Ties and thresholds that are met exactly use numbers that both types hold. tests/test_boxes.cpp has float32's own.
#include <limits>

#include "kernels/boxes.h"
#include "kernels/matcher.h"
#include "kernels/nms.h"
#include "tests/op_cases.h"

namespace glia::tests {
namespace {

constexpr double infinity = std::numeric_limits<double>::infinity(), nan = std::numeric_limits<double>::quiet_NaN();

OpInput given_boxes(const std::vector<std::array<double, 4>>& list) {
  std::vector<double> values;
  for (const auto& box : list) values.insert(values.end(), box.begin(), box.end());
  return given({int64_t(list.size()), 4}, values);
}

OpInput odd_boxes() {
  return given_boxes({{0, 0, 8, 8},  // twice; its quarter, its half, its neighbour
                      {0, 0, 8, 8},
                      {0, 0, 4, 4},
                      {0, 0, 8, 4},
                      {8, 0, 16, 8},
                      {2, 0, 2, 8},  // a line, a point, one turned around
                      {3, 3, 3, 3},
                      {8, 8, 0, 0},
                      {0, 0, 8, nan},
                      {0, 0, infinity, 8},
                      {-infinity, -infinity, infinity, infinity}});
}

const RegisterOpCases geometry([](OpCases& cases) {
  for (const auto& [m, n] : {std::pair{0, 3}, {3, 0}, {1, 1}, {7, 1}, {5, 33}, {40, 300}})
    cases.push_back(op_case(fmt::format("{} x {}", m, n), PairwiseIou{}, {boxes(m, 20), boxes(n, 20)}));
  cases.push_back(op_case("odd boxes", PairwiseIou{}, {odd_boxes(), odd_boxes()}));

  const std::array<double, 4> weights{10, 10, 5, 5};
  for (const int64_t n : {0, 1, 37, 300}) {
    cases.push_back(op_case(fmt::format("{}", n), BoxEncode{.weights = weights}, {boxes(n, 20), boxes(n, 20)}, 1e-4));
    cases.push_back(op_case(fmt::format("{}", n), BoxDecode{.weights = weights}, {normal({n, 4}), constant(boxes(n, 20))}));
  }
  cases.push_back(op_case("weights 1", BoxEncode{}, {boxes(9, 100), boxes(9, 100)}, 1e-4));
  cases.push_back(op_case("five a row", BoxDecode{}, {normal({7, 20}), constant(boxes(7, 20))}));
  cases.push_back(op_case("limited", BoxDecode{.scale_clamp = 0.5}, {normal({30, 8}), constant(boxes(30, 20))}));
  cases.push_back(op_case("not finite", BoxDecode{.weights = weights},
                          {given({3, 4}, {nan, 1, 2, 3, 1, infinity, -infinity, nan, 0, 0, 900, infinity}),
                           given({3, 4}, {0, 0, 4, 8, 1, 1, 2, 2, 0, 0, 3, 5})}));

  for (const Shape& shape : {Shape{0, 4}, Shape{1, 4}, Shape{50, 12}})
    cases.push_back(op_case(to_string(shape), BoxClip{.height = 3, .width = 5}, {uniform(shape, -4, 9)}));
  cases.push_back(op_case("odd boxes", BoxClip{.height = 6, .width = 7}, {odd_boxes()}));

  using Kind = BoxIouLoss::Kind;
  for (const auto& [name, kind] : {std::pair{"giou", Kind::giou}, {"diou", Kind::diou}, {"ciou", Kind::ciou}}) {
    for (const int64_t n : {0, 1, 30, 290}) {
      OpCase c = op_case(fmt::format("{}, {}", name, n), BoxIouLoss{.kind = kind}, {boxes(n, 8), constant(boxes(n, 8))}, 1e-4);
      c.by_differences = kind != Kind::ciou;  // tests/test_boxes.cpp
      cases.push_back(c);
    }
    // Equal boxes, one inside the other, apart, an empty one.
    OpInput pred = given_boxes({{0, 0, 4, 4}, {1, 1, 2, 3}, {0, 0, 1, 1}, {2, 2, 2, 2}});
    pred.differentiable = true;
    OpCase c = op_case(fmt::format("{}, odd boxes", name), BoxIouLoss{.kind = kind},
                       {pred, given_boxes({{0, 0, 4, 4}, {0, 0, 4, 8}, {5, 5, 7, 9}, {1, 1, 3, 3}})});
    c.by_differences = false;  // corners
    cases.push_back(c);
  }
});

const RegisterOpCases matching([](OpCases& cases) {
  for (const bool low : {false, true}) {
    const auto label = [low](const std::string& name) { return low ? name + ", low quality" : name; };
    const Matcher matcher{.allow_low_quality = low};
    for (const Shape& shape : {Shape{0, 5}, Shape{3, 0}, Shape{1, 1}, Shape{6, 60}, Shape{70, 700}})
      cases.push_back(op_case(label(to_string(shape)), matcher, {uniform(shape, 0, 1)}));
    // Equal values down and along, thresholds met exactly, a row of zeros, NaN.
    cases.push_back(op_case(label("ties"), Matcher{.thresholds = {0.25, 0.5}, .allow_low_quality = low},
                            {given({4, 6}, {0.25, 0.5, 0.125, 0.5, 0,   0.25, 0.25, 0.5, 0.125, 0.5, nan, 0.2,
                                            0,    nan, 0,     0,   0.1, nan,  0.1,  0.1, 0.1,   0.1, 0.1, 0.1})}));
    cases.push_back(op_case(label("a row of NaN"), matcher, {given({2, 3}, {nan, nan, nan, 0.5, 0.9, 0.1})}));
    cases.push_back(op_case(label("a row of zeros"), matcher, {given({2, 3}, {0, 0, 0, 0.5, 0.9, 0.1})}));
    cases.push_back(op_case(label("no thresholds"), Matcher{.thresholds = {}, .labels = {7}, .allow_low_quality = low},
                            {uniform({3, 9}, 0, 1)}));
    cases.push_back(op_case(label("four thresholds"),
                            Matcher{.thresholds = {0.2, 0.4, 0.6, 0.8}, .labels = {3, -1, 5, 1, 0}, .allow_low_quality = low},
                            {uniform({3, 90}, 0, 1)}));

    const MatchBoxes boxes_of{.thresholds = {0.3, 0.5}, .allow_low_quality = low};
    for (const auto& [m, n] : {std::pair{0, 7}, {3, 0}, {1, 1}, {5, 33}, {40, 700}, {300, 200}})
      cases.push_back(op_case(label(fmt::format("{} of {}", m, n)), boxes_of, {boxes(m, 50), boxes(n, 50)}));
    cases.push_back(
        op_case(label("odd boxes"), MatchBoxes{.thresholds = {0.25, 0.5}, .allow_low_quality = low}, {odd_boxes(), odd_boxes()}));
    // A ground truth that nothing overlaps.
    cases.push_back(op_case(label("far away"), boxes_of, {given_boxes({{900, 900, 910, 910}, {3, 3, 9, 9}}), boxes(70, 20)}));
  }
});

// A row of squares of 8, each moved by 4 against the last: IoU exactly 1/3 of neighbours.
OpInput stairs(int64_t n) {
  std::vector<std::array<double, 4>> list;
  for (int64_t i = 0; i < n; ++i) list.push_back({4.0 * double(i), 0, 4.0 * double(i) + 8, 8});
  return given_boxes(list);
}

const RegisterOpCases suppression([](OpCases& cases) {
  for (const int64_t n : {0, 1, 2, 63, 64, 65, 400}) {
    for (const double threshold : {0.0, 0.3, 0.7})
      cases.push_back(op_case(fmt::format("{}, above {}", n, threshold), Nms{.threshold = threshold},
                              {boxes(n, 30), distinct({n}), absent()}));
    cases.push_back(
        op_case(fmt::format("{} in groups", n), Nms{.threshold = 0.2}, {boxes(n, 30), distinct({n}), integers({n}, 5)}));
    cases.push_back(op_case(fmt::format("5 of {}", n), Nms{.threshold = 0.2, .max_keep = 5},
                            {boxes(n, 30), distinct({n}), integers({n}, 3)}));
  }
  cases.push_back(
      op_case("equal scores", Nms{.threshold = 0.1}, {boxes(150, 30), given({150}, std::vector<double>(150, 0.5)), absent()}));
  const std::vector<double> three{0.5, nan, 0.5};
  cases.push_back(op_case("none wanted", Nms{.max_keep = 0}, {boxes(3, 9), given({3}, three), absent()}));
  cases.push_back(op_case("scores that are not finite", Nms{.threshold = 0.1},
                          {stairs(6), given({6}, {-infinity, nan, 1, infinity, nan, -0.0}), absent()}));
  // IoU exactly at the threshold: of squares moved by a quarter (3/5), and of one and its half (1/2), quarter (1/4).
  cases.push_back(op_case("at the threshold 1/2", Nms{.threshold = 0.5}, {odd_boxes(), distinct({11}), absent()}));
  cases.push_back(op_case("at the threshold 1/4", Nms{.threshold = 0.25}, {odd_boxes(), distinct({11}), absent()}));
  cases.push_back(op_case("at the threshold 1", Nms{.threshold = 1}, {odd_boxes(), distinct({11}), absent()}));
  cases.push_back(op_case("a chain", Nms{.threshold = 0.25}, {stairs(200), distinct({200}), absent()}));
  cases.push_back(op_case("far groups", Nms{.threshold = 0.25},
                          {stairs(5), distinct({5}), given({5}, {-9e15, 9e15, -9e15, 9e15, -9e15}, DType::int64)}));
});

}  // namespace
}  // namespace glia::tests
