#include "kernels/flow.h"
#include "tests/op_cases.h"

namespace glia::tests {
namespace {

// Cells of many forms on a grid of `size` pixels: full squares that touch, discs, rings, bars, and a label in two parts.
OpInput cells(int64_t rows, int64_t columns, int64_t size) {
  std::vector<double> map(size_t(rows * columns * size * size));
  const int64_t width = columns * size;
  for (int64_t i = 0; i < rows * width * size; ++i) {
    const int64_t y = i / width, x = i % width, cell = y / size * columns + x / size;
    const int64_t dy = 2 * (y % size) - size + 1, dx = 2 * (x % size) - size + 1, square = dy * dy + dx * dx;
    const bool disc = square < size * size;
    const bool inside = cell % 5 == 0   ? true
                        : cell % 5 == 1 ? disc
                        : cell % 5 == 2 ? disc && square * 4 > size * size
                        : cell % 5 == 3 ? dy * dy <= 4
                                        : disc && dx * dx > 9;
    map[size_t(i)] = inside ? double(cell % 7 == 6 ? cell - 5 : cell + 1) : 0;
  }
  return given({rows * size, width}, std::move(map), DType::int32);
}

OpCase targets(const char* label, const OpInput& map, int64_t count) {
  return op_case(label, FlowTargets{.count = count}, {map}, 1e-6);
}

OpInput repeated(std::vector<double> pattern, int64_t times) {
  std::vector<double> all;
  for (int64_t i = 0; i < times; ++i) all.insert(all.end(), pattern.begin(), pattern.end());
  const auto n = static_cast<int64_t>(all.size()) / 2;
  return given({n, 2}, std::move(all));
}

const RegisterOpCases flow([](OpCases& list) {
  list.push_back(targets("nothing", given({4, 5}, std::vector<double>(20, 0.0), DType::int32), 0));
  list.push_back(targets("empty", given({0, 5}, {}, DType::int32), 3));
  list.push_back(targets("one pixel, labels left out", given({3, 3}, {0, 0, 0, 0, 4, 0, 0, 0, 0}, DType::int32), 6));
  list.push_back(targets("the whole image", given({3, 4}, std::vector<double>(12, 1.0), DType::int32), 1));
  list.push_back(
      targets("corners and two halves", given({4, 4}, {1, 1, 0, 2, 1, 0, 0, 2, 0, 0, 0, 0, 2, 2, 0, 3}, DType::int32), 3));
  list.push_back(targets("many", cells(2, 3, 7), 6));
  list.push_back(targets("large", cells(1, 5, 22), 5));
  for (const bool interpolate : {true, false}) {
    const char* how = interpolate ? "bilinear" : "nearest";
    const auto add = [&](const std::string& label, int64_t steps, const OpInput& field, const OpInput& points) {
      list.push_back(op_case(fmt::format("{}, {}", label, how), FollowFlow{.steps = steps, .interpolate = interpolate},
                             {constant(field), constant(points)}, 1e-5));
    };
    add("one step", 1, normal({9, 13, 2}), uniform({37, 2}, 0, 8));
    add("three steps", 3, uniform({9, 13, 2}, -0.5, 0.5), uniform({100, 2}, -2, 14));
    add("to a corner", 40, given({2, 2, 2}, {1, 1, 1, 1, 1, 1, 1, 1}), uniform({5, 2}, 0, 1));
    add("a row", 2, uniform({1, 6, 2}, -1, 1), uniform({17, 2}, 0, 5));
    add("no steps", 0, normal({3, 3, 2}), uniform({4, 2}, 0, 2));
    add("no points", 5, normal({3, 3, 2}), given({0, 2}, {}));
  }
  const FlowSeeds image{.height = 12, .width = 15};
  list.push_back(op_case("spread", image, {constant(uniform({400, 2}, 0, 11))}));
  list.push_back(op_case("dense", image, {constant(uniform({3000, 2}, -3, 16))}));
  list.push_back(op_case("one place", image, {repeated({4.5, 7.25}, 11)}));
  list.push_back(op_case("ten are too few", image, {repeated({4.5, 7.25}, 10)}));
  // Two seeds of equal points three pixels apart, and a third with more; what lies between them is contested.
  list.push_back(op_case("contested", image, {repeated({3, 3, 3, 6, 3, 4, 3, 5, 5, 9, 5, 9, 4, 8, 4, 7}, 12)}));
  list.push_back(op_case("at the edges", image, {repeated({0, 0, 11, 14, 11, 13, 0, 14}, 13)}));
  list.push_back(op_case("none", image, {given({0, 2}, {})}));
});

}  // namespace
}  // namespace glia::tests
