// Selection of instances: thresholds, sizes, overlaps; against the public notebooks' rule written out over pixels.
#include <doctest/doctest.h>

#include <algorithm>
#include <numeric>

#include "data/rle.h"
#include "data/selection.h"
#include "tensor/error.h"
#include "tensor/random.h"

using namespace glia;

namespace {

Instance rectangle(int64_t y0, int64_t x0, int64_t y1, int64_t x1, double score, int category = 0) {
  const Tensor mask = Tensor::zeros({10, 12}, DType::uint8);
  for (int64_t y = y0; y < y1; ++y)
    for (int64_t x = x0; x < x1; ++x) mask.data<uint8_t>()[y * 12 + x] = 1;
  Instance instance{.mask = encode_mask(mask), .category = category, .score = score};
  instance.box = {double(x0) - 0.25, double(y0), double(x1 - x0) + 0.5, double(y1 - y0)};  // a detector's, not the mask's
  return instance;
}

// By falling score: mask &= free; drop where fewer pixels are left; free &= ~mask.
std::vector<Tensor> by_pixels(const std::vector<Instance>& instances, const std::vector<double>& thresholds,
                              const std::vector<int64_t>& sizes) {
  std::vector<size_t> order(instances.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return instances[a].score > instances[b].score; });
  std::vector<Tensor> masks;
  const Tensor used = Tensor::zeros({10, 12}, DType::uint8);
  for (const size_t i : order) {
    const auto c = static_cast<size_t>(instances[i].category);
    if (instances[i].score < thresholds[c]) continue;
    const Tensor mask = decode_mask(instances[i].mask);
    int64_t left = 0;
    for (int64_t p = 0; p < 120; ++p) left += mask.data<uint8_t>()[p] = mask.data<uint8_t>()[p] && !used.data<uint8_t>()[p];
    if (left < std::max<int64_t>(1, sizes[c])) continue;
    for (int64_t p = 0; p < 120; ++p) used.data<uint8_t>()[p] |= mask.data<uint8_t>()[p];
    masks.push_back(mask);
  }
  return masks;
}

}  // namespace

TEST_SUITE_BEGIN("files");

TEST_CASE("selection: what the defaults leave alone") {
  const std::vector<Instance> two{rectangle(0, 0, 4, 4, 0.3), rectangle(2, 2, 6, 6, 0.9)};
  const std::vector<Instance> kept = select_instances(two, {});
  REQUIRE(kept.size() == 2);
  CHECK(kept[0].score == 0.9);  // best first
  CHECK(kept[1].mask == two[0].mask);
  CHECK(kept[1].box == two[0].box);
  CHECK(select_instances({}, {.remove_overlaps = true}).empty());
}

TEST_CASE("selection: thresholds and sizes by class, of the instance or of the image") {
  std::vector<Instance> found{rectangle(0, 0, 3, 3, 0.5, 0), rectangle(4, 0, 6, 2, 0.4, 1), rectangle(4, 4, 8, 8, 0.3, 1)};
  const auto scores = [&](const Selection& s) {
    std::vector<double> list;
    for (const Instance& i : select_instances(found, s)) list.push_back(i.score);
    return list;
  };
  CHECK(scores({.thresholds = {0.4}}) == std::vector<double>{0.5, 0.4});  // not below is enough
  CHECK(scores({.thresholds = {0.6, 0.2}}) == std::vector<double>{0.4, 0.3});
  CHECK(scores({.min_sizes = {5}}) == std::vector<double>{0.5, 0.3});
  CHECK(scores({.min_sizes = {10, 4}}) == std::vector<double>{0.4, 0.3});
  CHECK(scores({.thresholds = {0.6, 0.35}, .class_of_image = true}) ==
        std::vector<double>{0.5, 0.4});  // two of class 1 to one of 0
  found.push_back(rectangle(8, 8, 9, 9, 0.9, 2));
  CHECK_THROWS_AS(scores({.thresholds = {0.1, 0.1}}), UsageError);
  CHECK_THROWS_AS(scores({.min_sizes = {1, 1}}), UsageError);
}

TEST_CASE("selection: the pixels of an overlap belong to the better one, and who keeps too few takes none") {
  const std::vector<Instance> found{rectangle(0, 0, 4, 4, 0.5), rectangle(0, 2, 4, 6, 0.9), rectangle(0, 0, 4, 3, 0.4)};
  const std::vector<Instance> kept = select_instances(found, {.remove_overlaps = true});
  REQUIRE(kept.size() == 2);
  CHECK(kept[0].box == found[1].box);  // untouched: the detector's box
  CHECK(area(kept[1].mask) == 8);
  CHECK(kept[1].box == Box{0, 0, 2, 4});
  // With a smallest size of 9 the second loses, and the third gets its pixels.
  const std::vector<Instance> sized = select_instances(found, {.min_sizes = {8}, .remove_overlaps = true});
  CHECK(sized.size() == 2);
  CHECK(select_instances(found, {.min_sizes = {9}, .remove_overlaps = true}).size() == 1);
}

TEST_CASE("selection: random rectangles, as over pixels") {
  const Philox random(3, 0);
  uint64_t n = 0;
  const auto below = [&](int64_t limit) { return int64_t(random.uniform(n++) * double(limit)); };
  for (int round = 0; round < 200; ++round) {
    std::vector<Instance> found;
    for (int64_t i = below(8); i >= 0; --i) {
      const int64_t y = below(9), x = below(11);
      found.push_back(rectangle(y, x, y + 1 + below(10 - y), x + 1 + below(12 - x), double(below(8)) / 8, int(below(2))));
    }
    const std::vector<double> thresholds{0.25, 0.5};
    const std::vector<int64_t> sizes{below(6), below(6)};
    const std::vector<Tensor> want = by_pixels(found, thresholds, sizes);
    const std::vector<Instance> got =
        select_instances(found, {.thresholds = thresholds, .min_sizes = sizes, .remove_overlaps = true});
    REQUIRE(got.size() == want.size());
    for (size_t i = 0; i < got.size(); ++i) REQUIRE(got[i].mask == encode_mask(want[i]));
  }
}

TEST_SUITE_END();
