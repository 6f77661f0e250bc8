#include <cmath>

#include "kernels/roi_align.h"
#include "tensor/random.h"
#include "tests/op_cases.h"

namespace glia::tests {
namespace {

using Roi = std::array<double, 5>;  // image, x1, y1, x2, y2

// Multiples of 1/32, which are exact in float32.
double on_grid(double x) { return std::round(x * 32) / 32; }

// Of images of `height` x `width` pixels, sides from `low` to `high`, some partly outside.
std::vector<Roi> random_rois(int64_t count, int64_t images, double height, double width, double low, double high) {
  std::vector<Roi> rois;
  Random random(uint64_t(count) + 17);
  for (int64_t r = 0; r < count; ++r) {
    const double x = random.uniform(0, width), y = random.uniform(0, height);
    const double w = random.uniform(low, high) / 2, h = random.uniform(low, high) / 2;
    rois.push_back({double(r % images), on_grid(x - w), on_grid(y - h), on_grid(x + w), on_grid(y + h)});
  }
  return rois;
}

// On a map of about 20 x 24 pixels, a quarter of the image.
std::vector<Roi> special_rois() {
  const double nan = std::nan(""), inf = INFINITY;
  return {
      {0, 0, 0, 96, 80},            // all
      {0, -70, -50, 200, 150},      // more than all
      {0, -300, -300, -100, -100},  // outside, each side
      {0, 300, 300, 400, 400},
      {0, 20, 300, 60, 400},
      {0, -6, -6, 4, 4},  // on the edges, where samples end to count
      {0, 90, 74, 102, 92},
      {0, 40, 40, 40, 40},  // empty
      {0, 40, 40, 70, 40},
      {0, 70, 60, 30, 20},  // turned round
      {0, 70, 20, 30, 60},
      {0, 33, 35, 33.25, 35.5},  // far below a pixel
      {0, 16, 8, 44, 36},        // as many pixels as bins
      {0, nan, 20, 50, 60},
      {0, 10, 20, nan, 60},
      {0, 10, 20, 50, inf},
      {0, -inf, 20, 50, 60},
      {0, 1e9, 1e9, 2e12, 2e12},  // too large for a grid
      {0, -1700, -1500, 1300, 2000},
      {0, -400, 20, 500, 30},  // long
  };
}

OpInput rois_input(const std::vector<Roi>& rois) {
  std::vector<double> values;
  for (const Roi& r : rois) values.insert(values.end(), r.begin(), r.end());
  return given({int64_t(rois.size()), 5}, values);
}

void one_map_cases(OpCases& cases) {
  const auto add = [&](const std::string& label, const RoiAlign& op, const Shape& x, const std::vector<Roi>& rois) {
    // Positions are computed in float32: where they have no digits left for the fraction, so have the values.
    cases.push_back(op_case(label, op, {normal(x), absent(), absent(), absent(), rois_input(rois)}, 1e-4));
  };
  for (const bool aligned : {true, false})
    for (const int64_t sampling : {0, 1, 2, 3}) {
      const std::string mode = std::string(aligned ? ", aligned" : "") + ", sampling " + std::to_string(sampling);
      add("special" + mode, {.size = 7, .sampling = sampling, .aligned = aligned}, {1, 20, 24, 5}, special_rois());
      add("random" + mode, {.size = 5, .sampling = sampling, .aligned = aligned}, {2, 17, 31, 8},
          random_rois(23, 2, 68, 124, 1, 70));
    }
  add("one bin, one channel", {.size = 1}, {3, 9, 7, 1}, random_rois(20, 3, 36, 28, 1, 40));
  add("a map of one pixel", {.size = 3, .scales = {1}}, {1, 1, 1, 4}, {{0, 0, 0, 1, 1}, {0, -2, -2, 3, 3}, {0, 0.25, 0.5, 4, 9}});
  add("a map of one row", {.size = 2, .scales = {0.5}}, {1, 1, 13, 3}, random_rois(9, 1, 2, 26, 1, 20));
  add("no rois", {.size = 7}, {2, 6, 5, 4}, {});
  add("no images", {.size = 7}, {0, 6, 5, 4}, {});
  add("no channels", {.size = 7}, {1, 6, 5, 0}, {{0, 0, 0, 20, 20}});
  add("masks", {.size = 14}, {1, 30, 41, 20}, random_rois(7, 1, 120, 164, 20, 90));
  add("many channels", {.size = 7}, {1, 12, 13, 300}, random_rois(6, 1, 48, 52, 4, 50));
  add("channels of vectors and a rest", {.size = 3}, {1, 12, 13, 68}, random_rois(6, 1, 48, 52, 4, 50));
  add("an odd scale", {.size = 4, .scales = {0.3}}, {1, 11, 9, 16}, random_rois(8, 1, 36, 30, 1, 30));
  add("larger than the map has pixels", {.size = 28, .scales = {1}}, {1, 5, 6, 4}, random_rois(5, 1, 5, 6, 1, 9));
  std::vector<Roi> heap(300, Roi{0, 12.5, 9.25, 40.75, 30});
  for (size_t r = 0; r < heap.size(); ++r) heap[r][3] += double(r) / 32;
  add("many on one place", {.size = 3}, {1, 13, 15, 8}, heap);
}

void pyramid_cases(OpCases& cases) {
  const auto add = [&](const char* label, RoiAlign op, const std::array<OpInput, 4>& x, int64_t rois, int64_t levels) {
    op.scales = {1. / 2, 1. / 4, 1. / 8, 1. / 16};
    cases.push_back(op_case(
        label, op, {x[0], x[1], x[2], x[3], rois_input(random_rois(rois, 2, 48, 64, 2, 50)), integers({rois}, levels)}, 1e-4));
  };
  const auto map = [](int64_t side, int64_t channels) { return normal({2, 48 / side, 64 / side, channels}); };
  add("four levels", {.size = 7}, {map(2, 12), map(4, 12), map(8, 12), map(16, 12)}, 40, 4);
  add("four levels, odd channels", {.size = 2, .sampling = 2}, {map(2, 3), map(4, 3), map(8, 3), map(16, 3)}, 30, 4);
  add("two levels", {.size = 5}, {map(2, 4), map(4, 4), absent(), absent()}, 20, 2);
  add("a frozen level", {.size = 5}, {map(2, 4), constant(map(4, 4)), map(8, 4), absent()}, 20, 3);
  add("levels that no roi is of", {.size = 5}, {map(2, 4), map(4, 4), map(8, 4), absent()}, 20, 1);
}

void level_cases(OpCases& cases) {
  std::vector<double> boxes;
  for (const Roi& r : random_rois(300, 1, 800, 1000, 1, 900)) boxes.insert(boxes.end(), r.begin() + 1, r.end());
  cases.push_back(op_case("random", FpnLevel{}, {given({300, 4}, boxes)}));
  cases.push_back(
      op_case("from level 0", FpnLevel{.min_level = 0, .max_level = 3, .canonical_level = 2}, {given({300, 4}, boxes)}));
  std::vector<double> special;
  for (const Roi& r : special_rois()) special.insert(special.end(), r.begin() + 1, r.end());
  for (const double side : {112., 224., 448., 896., 111.5, 223.5, 447.5})
    special.insert(special.end(), {10, 20, 10 + side, 20 + side});
  cases.push_back(op_case("special", FpnLevel{}, {given({int64_t(special.size() / 4), 4}, special)}));
  cases.push_back(op_case("one level", FpnLevel{.min_level = 3, .max_level = 3}, {given({300, 4}, boxes)}));
  cases.push_back(op_case("no boxes", FpnLevel{}, {given({0, 4}, {})}));
}

const RegisterOpCases roi([](OpCases& cases) {
  one_map_cases(cases);
  pyramid_cases(cases);
  level_cases(cases);
});

}  // namespace
}  // namespace glia::tests
