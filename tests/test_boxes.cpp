// What the case table of ops cannot say of boxes: decisions in float32 to the bit, and agreement between ops.
#include <doctest/doctest.h>

#include <cmath>
#include <limits>

#include "kernels/anchors.h"
#include "kernels/boxes.h"
#include "kernels/loss.h"
#include "kernels/matcher.h"
#include "kernels/nms.h"
#include "kernels/sort.h"
#include "tensor/random.h"
#include "tests/op_run.h"

namespace glia::tests {
namespace {

constexpr float nan = std::numeric_limits<float>::quiet_NaN(), infinity = std::numeric_limits<float>::infinity();

Tensor boxes_of(const std::vector<float>& values) { return Tensor::from({int64_t(values.size()) / 4, 4}, values); }

// Boxes in a square of `extent`, sizes up to `largest`; some twice, some of neither width nor height, some turned around, some not
// finite.
Tensor random_boxes(int64_t n, double extent, double largest, uint64_t seed) {
  const Tensor boxes({n, 4});
  float* b = boxes.data<float>();
  const Philox random(seed, 3);
  for (int64_t i = 0; i < n; ++i) {
    const auto number = [&](int k, double high) { return float(random.uniform(uint64_t(8 * i + k), 0, high)); };
    const float x = number(0, extent), y = number(1, extent);
    const float values[4] = {x, y, x + number(2, largest), y + number(3, largest)};
    std::copy_n(values, 4, b + 4 * i);
    const uint64_t odd = random.below(uint64_t(8 * i + 4), 40);
    if (odd < 8 && i > 0) std::copy_n(b + 4 * int64_t(random.below(uint64_t(8 * i + 5), uint64_t(i))), 4, b + 4 * i);
    if (odd == 8) b[4 * i + 2] = x;
    if (odd == 9) std::swap(b[4 * i], b[4 * i + 2]);
    if (odd == 10) b[4 * i + random.below(uint64_t(8 * i + 5), 4)] = random.below(uint64_t(8 * i + 6), 2) ? nan : infinity;
  }
  return boxes;
}

// Scores with ties.
Tensor random_scores(int64_t n, uint64_t values, uint64_t seed) {
  const Tensor scores({n});
  const Philox random(seed, 4);
  for (int64_t i = 0; i < n; ++i) scores.data<float>()[i] = float(random.below(uint64_t(i), values)) / 64;
  return scores;
}
Tensor random_groups(int64_t n, uint64_t count, uint64_t seed) {
  const Tensor groups({n}, DType::int64);
  const Philox random(seed, 5);
  for (int64_t i = 0; i < n; ++i) groups.data<int64_t>()[i] = int64_t(random.below(uint64_t(i), count)) - 1;
  return groups;
}

// Calls f once by each implementation that this computer runs, on inputs moved there.
template <class F>
void by_each(const F& f) {
  const KernelChoice before = kernel_choice();
  for (const KernelChoice choice : {KernelChoice::reference, KernelChoice::hand}) {
    INFO("kernels ", int(choice));
    set_kernel_choice(choice);
    f(Device{});
  }
  set_kernel_choice(before);
  INFO("emulated");
  f(Device{DeviceKind::emulated});
}

template <class Op, class... In>
std::vector<Tensor> run_on(Device device, const Op& op, const In&... in) {
  const auto out = apply(op, in.to(device)...);
  std::vector<Tensor> list;
  if constexpr (std::is_same_v<std::remove_cvref_t<decltype(out)>, Tensor>) {
    list.push_back(out.to(Device{}));
  } else {
    for (const Tensor& t : out) list.push_back(t.to(Device{}));
  }
  return list;
}

std::vector<int64_t> numbers(const Tensor& t) { return {t.data<int64_t>(), t.data<int64_t>() + t.size()}; }

std::vector<int64_t> kept_by(Device device, const Nms& op, const Tensor& boxes, const Tensor& scores, const Tensor& groups = {}) {
  const auto out = run_on(device, op, boxes, scores, groups);
  const std::vector<int64_t> keep = numbers(out[0]);
  const auto count = size_t(out[1].item());
  for (size_t i = count; i < keep.size(); ++i) CHECK(keep[i] == -1);
  return {keep.begin(), keep.begin() + std::ptrdiff_t(count)};
}

// Greedy suppression by pairs, written for itself: IoU in float32, compared as a double.
std::vector<int64_t> naive_nms(const Tensor& boxes, const Tensor& scores, const Tensor& groups, double threshold) {
  const auto order = numbers(apply(Sort{.descending = true}, scores)[1]);
  const float* b = boxes.data<float>();
  const auto iou = [b](int64_t i, int64_t j) {
    const float *p = b + 4 * i, *q = b + 4 * j;
    const volatile float area_p = (p[2] - p[0]) * (p[3] - p[1]), area_q = (q[2] - q[0]) * (q[3] - q[1]);
    const float w = std::max(0.0f, std::min(p[2], q[2]) - std::max(p[0], q[0]));
    const float h = std::max(0.0f, std::min(p[3], q[3]) - std::max(p[1], q[1]));
    const volatile float inter = w * h, sum = area_p + area_q;
    return inter / (sum - inter);
  };
  std::vector<bool> gone(size_t(boxes.dim(0)));
  std::vector<int64_t> keep;
  for (size_t a = 0; a < order.size(); ++a) {
    const int64_t i = order[a];
    if (gone[size_t(i)]) continue;
    keep.push_back(i);
    for (size_t c = a + 1; c < order.size(); ++c) {
      const int64_t j = order[c];
      if (groups && groups.data<int64_t>()[i] != groups.data<int64_t>()[j]) continue;
      if (double(iou(i, j)) > threshold) gone[size_t(j)] = true;
    }
  }
  return keep;
}

}  // namespace

TEST_SUITE_BEGIN("boxes");

TEST_CASE("NMS keeps what a comparison of all pairs keeps") {
  uint64_t seed = 0;
  for (const auto& [n, extent, largest] : {std::tuple{1, 10.0, 5.0},
                                           {40, 50.0, 60.0},
                                           {300, 100.0, 30.0},
                                           {300, 1e4, 30.0},
                                           {1500, 300.0, 40.0},
                                           {1500, 300.0, 900.0},
                                           {5000, 700.0, 60.0}}) {
    for (const double threshold : {0.0, 0.25, 0.5, 0.7, 1.0}) {
      if (n > 1500 && threshold != 0.5) continue;  // for time
      ++seed;
      const Tensor boxes = random_boxes(n, extent, largest, seed), scores = random_scores(n, seed % 2 ? 4 : 1u << 20, seed);
      const Tensor groups = random_groups(n, 4, seed);
      by_each([&](Device device) {
        if (n > 300 && device.kind != DeviceKind::cpu && threshold != 0.5) return;  // for time
        INFO("n ", n, ", extent ", extent, ", sizes ", largest, ", threshold ", threshold);
        CHECK(kept_by(device, {.threshold = threshold}, boxes, scores) == naive_nms(boxes, scores, {}, threshold));
        const auto want = naive_nms(boxes, scores, groups, threshold);
        CHECK(kept_by(device, {.threshold = threshold}, boxes, scores, groups) == want);
        const auto few = kept_by(device, {.threshold = threshold, .max_keep = 7}, boxes, scores, groups);
        CHECK(few == std::vector<int64_t>(want.begin(), want.begin() + std::min<std::ptrdiff_t>(7, std::ssize(want))));
      });
    }
  }
}

TEST_CASE("NMS: equal scores go by index, and only an IoU above the threshold, as a double, suppresses") {
  // 0.6f is above 0.6, 0.7f is not above 0.7, 0.5 is exact.
  const Tensor five = boxes_of({0, 0, 10, 10, 0, 0, 10, 5});
  const Tensor six = boxes_of({0, 0, 10, 10, 0, 0, 10, 6}), seven = boxes_of({0, 0, 10, 10, 0, 0, 10, 7});
  const Tensor same = Tensor::full({2}, 0.5), rising = Tensor::from<float>({2}, std::vector<float>{0.1f, 0.2f});
  by_each([&](Device device) {
    CHECK(kept_by(device, {.threshold = 0.5}, five, same) == std::vector<int64_t>{0, 1});
    CHECK(kept_by(device, {.threshold = 0.6}, six, same) == std::vector<int64_t>{0});
    CHECK(kept_by(device, {.threshold = 0.7}, seven, same) == std::vector<int64_t>{0, 1});
    CHECK(kept_by(device, {.threshold = 0.6}, six, rising) == std::vector<int64_t>{1});
  });
}

TEST_CASE("batched NMS: up to 1000 boxes are shifted as by torchvision, which rounds them; more go group by group") {
  // IoU 1 / 1.001 within group 3; shifted by 3 (1e6 + 1), the two are one box.
  std::vector<float> values{0, 0, 1, 1, 0, 0, 1, 1.001f, 0, 0, 1e6f, 1e6f};
  std::vector<int64_t> group{3, 3, 0};
  const auto kept = [&](bool batched) {
    const int64_t n = int64_t(group.size());
    const Tensor boxes = boxes_of(values), groups = Tensor::from({n}, group), scores({n});
    for (int64_t i = 0; i < n; ++i) scores.data<float>()[i] = float(n - i);
    return std::ssize(batched ? batched_nms(boxes, scores, groups, 0.9995)
                              : kept_by({}, {.threshold = 0.9995}, boxes, scores, groups));
  };
  CHECK(kept(false) == 3);
  CHECK(kept(true) == 2);
  while (group.size() < 1000) {
    const float x = float(10 * group.size());
    for (const float v : {x, 0.0f, x + 5, 5.0f}) values.push_back(v);
    group.push_back(7);
  }
  CHECK(kept(true) == 999);
  for (const float v : {0.0f, 50.0f, 5.0f, 60.0f}) values.push_back(v);
  group.push_back(7);
  CHECK(kept(true) == 1001);
  CHECK(batched_nms(boxes_of({}), Tensor({0}), Tensor({0}, DType::int64), 0.5).empty());
}

TEST_CASE("matching without the matrix equals the matrix and the matcher to the bit") {
  uint64_t seed = 100;
  for (const auto& [m, n, extent] :
       {std::tuple{0, 40, 50.0}, {1, 1, 5.0}, {20, 333, 60.0}, {90, 3000, 300.0}, {7, 1000, 2000.0}}) {
    for (const bool low : {false, true}) {
      ++seed;
      const Tensor gt = random_boxes(m, extent, 30, seed), boxes = random_boxes(n, extent, 30, seed + 50);
      const Tensor matrix = apply(PairwiseIou{}, gt, boxes);
      const Matcher rule{.thresholds = {0.3, 0.7}, .labels = {0, -1, 1}, .allow_low_quality = low};
      const auto want = apply(rule, matrix);
      Tensor best = Tensor::zeros({n});
      for (int64_t j = 0; m > 0 && j < n; ++j) best.data<float>()[j] = matrix.data<float>()[want[0].data<int64_t>()[j] * n + j];
      by_each([&](Device device) {
        INFO(m, " of ", n);
        CHECK(same_bits(run_on(device, PairwiseIou{}, gt, boxes)[0], matrix));
        const auto by_matrix = run_on(device, rule, matrix);
        const auto got = run_on(device, MatchBoxes{rule.thresholds, rule.labels, low}, gt, boxes);
        for (size_t i = 0; i < 2; ++i) {
          CHECK(same_bits(by_matrix[i], want[i]));
          CHECK(same_bits(got[i], want[i]));
        }
        CHECK(same_bits(got[2], best));
      });
    }
  }
}

TEST_CASE("matching: thresholds are rounded to float32, and ties of the best anchors are all positive") {
  // IoU of a box with its part: 0.7f and 0.3f.
  const Tensor gt = boxes_of({0, 0, 10, 10}), parts = boxes_of({0, 0, 10, 7, 0, 0, 10, 3, 0, 3, 10, 10, 0, 0, 10, 2});
  by_each([&](Device device) {
    const auto out = run_on(device, MatchBoxes{}, gt, parts);
    CHECK(numbers(out[1]) == std::vector<int64_t>{1, -1, 1, 0});
    const auto low = run_on(device, MatchBoxes{.thresholds = {0.3, 0.8}, .allow_low_quality = true}, gt, parts);
    CHECK(numbers(low[1]) == std::vector<int64_t>{1, -1, 1, 0});
    // Specification's example: rows are ground truth.
    const Tensor iou =
        Tensor::from<float>({3, 4}, std::vector<float>{.15f, .45f, .2f, .6f, .3f, .65f, .05f, .1f, .05f, .4f, .25f, .4f});
    const auto example = run_on(device, Matcher{.allow_low_quality = true}, iou);
    CHECK(numbers(example[0]) == std::vector<int64_t>{1, 1, 2, 0});
    CHECK(numbers(example[1]) == std::vector<int64_t>{-1, 1, 0, 1});
  });
}

TEST_CASE("anchors of a full-size image, and torchvision's") {
  int64_t total = 0;
  for (int level = 0; level < 5; ++level) {
    const double stride = 4 << level;
    const auto cells = [&](double pixels) { return int64_t(std::ceil(pixels / stride)); };
    total += anchors({.sizes = {8 * stride}, .stride = {stride, stride}, .height = cells(800), .width = cells(1088)}).dim(0);
  }
  CHECK(total == 217413);
  const Tensor two = anchors({.sizes = {32, 64}, .aspect_ratios = {0.25, 1, 4}, .stride = {4, 4}, .height = 1, .width = 2});
  CHECK(two.dim(0) == 12);
  for (const auto& [row, want] : {std::pair{0, std::array{-32.0f, -8.0f, 32.0f, 8.0f}}, {6, {-28, -8, 36, 8}}})
    for (int64_t i = 0; i < 4; ++i) CHECK(two.data<float>()[4 * row + i] == want[size_t(i)]);
  const Tensor rounded =
      anchors({.sizes = {33}, .aspect_ratios = {0.5, 1}, .stride = {61, 64}, .height = 2, .width = 2, .rounded = true});
  for (const auto& [row, want] :
       {std::pair{0, std::array{-23.0f, -12.0f, 23.0f, 12.0f}}, {1, {-16, -16, 16, 16}}, {7, {48, 45, 80, 77}}})
    for (int64_t i = 0; i < 4; ++i) CHECK(rounded.data<float>()[4 * row + i] == want[size_t(i)]);
  CHECK_THROWS_AS(anchors({.sizes = {0}, .height = 1, .width = 1}), InternalError);
}

TEST_CASE("encoding and decoding: the specification's numbers, and back") {
  const Tensor src = boxes_of({10, 20, 50, 80}), dst = boxes_of({12, 18, 60, 70});
  const std::array<double, 4> weights{10, 10, 5, 5};
  by_each([&](Device device) {
    const Tensor deltas = run_on(device, BoxEncode{.weights = weights}, src, dst)[0];
    const double want[4] = {1.5, -1, .911608, -.715504};
    for (int64_t i = 0; i < 4; ++i) CHECK(std::abs(deltas.data<float>()[i] - want[i]) < 1e-5);
    const Tensor back = run_on(device, BoxDecode{.weights = weights}, deltas, src)[0];
    for (int64_t i = 0; i < 4; ++i) CHECK(std::abs(back.data<float>()[i] - dst.data<float>()[i]) < 1e-4);
  });
}

TEST_CASE("CIoU's gradient is that of its value with the aspect penalty's weight held") {
  const Tensor pred = boxes_of({1, 2, 6, 5, 0, 0, 3, 9, 4, 4, 7, 8}).cast(DType::float64),
               target = boxes_of({2, 1, 7, 7, 1, 1, 3, 4, 0, 0, 3, 3}).cast(DType::float64);
  Tensor leaf = pred.clone();
  require_grad(leaf);
  const Tensor loss = apply(BoxIouLoss{.kind = BoxIouLoss::Kind::ciou}, leaf, target);
  backward(loss, Tensor::full({3}, 1, DType::float64));
  const Tensor gradient = grad_of(leaf);
  for (int64_t row = 0; row < 3; ++row) {
    const double* t = target.data<double>() + 4 * row;
    const auto penalty = [&](const double* p) {
      const double d = std::atan((t[2] - t[0]) / (t[3] - t[1])) - std::atan((p[2] - p[0]) / (p[3] - p[1]));
      return 4 / (M_PI * M_PI) * d * d;
    };
    double p[4];
    std::copy_n(pred.data<double>() + 4 * row, 4, p);
    const auto diou = [&] {
      const Tensor one = Tensor::from<double>({1, 4}, std::vector<double>(p, p + 4));
      return apply(BoxIouLoss{.kind = BoxIouLoss::Kind::diou}, one, target.slice(row, row + 1)).item();
    };
    const double weight = (loss.data<double>()[row] - diou()) / penalty(p);
    for (int i = 0; i < 4; ++i) {
      const auto at = [&](double step) {
        p[i] += step;
        const double value = diou() + weight * penalty(p);
        p[i] -= step;
        return value;
      };
      CHECK(gradient.data<double>()[4 * row + i] == doctest::Approx((at(1e-6) - at(-1e-6)) / 2e-6).epsilon(1e-6));
    }
  }
}

TEST_CASE("smooth L1 of width 0 is L1, with gradient 0 where both agree") {
  const Tensor target = Tensor::from<float>({4}, std::vector<float>{1, 2, 3, 4});
  by_each([&](Device device) {
    Tensor x = Tensor::from<float>({4}, std::vector<float>{1, 2.5f, 2, 4}).to(device);
    require_grad(x);
    const Tensor y = apply(SmoothL1Loss{.reduction = Reduction::sum, .beta = 0}, x, target.to(device));
    CHECK(y.item() == 1.5);
    backward(y, Tensor::scalar(1).to(device));
    const Tensor g = grad_of(x).to(Device{});
    const float want[4] = {0, 1, -1, 0};
    for (int64_t i = 0; i < 4; ++i) CHECK(g.data<float>()[i] == want[i]);
  });
}

TEST_CASE("wrong boxes are refused") {
  const Tensor boxes = Tensor::zeros({3, 4});
  CHECK_THROWS_WITH_AS(apply(PairwiseIou{}, boxes, Tensor::zeros({3, 5})),
                       "pairwise_iou: b is (3, 5) of float32, want (N, 4) or (N, 4k) of floating point: x1, y1, x2, y2",
                       InternalError);
  CHECK_THROWS_AS(apply(PairwiseIou{}, boxes, Tensor::zeros({3, 8})), InternalError);
  CHECK_THROWS_AS(apply(BoxDecode{}, Tensor::zeros({2, 4}), boxes), InternalError);
  CHECK_THROWS_AS(apply(Nms{}, boxes, Tensor::zeros({2}), Tensor()), InternalError);
  CHECK_THROWS_AS(apply(Nms{}, boxes, Tensor::zeros({3}), Tensor::zeros({3})), InternalError);
  CHECK_THROWS_AS(apply(Nms{.threshold = -0.1}, boxes, Tensor::zeros({3}), Tensor()), InternalError);
  CHECK_THROWS_AS(apply(MatchBoxes{.thresholds = {0.7, 0.3}}, boxes, boxes), InternalError);
  CHECK_THROWS_AS(apply(MatchBoxes{.thresholds = {0.5}}, boxes, boxes), InternalError);
}

TEST_SUITE_END();

}  // namespace glia::tests
