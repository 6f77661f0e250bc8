// Synthetic pictures: determinism, masks that fit the picture, statistics of the classes, the files written.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "data/atomic_file.h"
#include "data/image_io.h"
#include "data/rle.h"
#include "data/synth.h"
#include "kernels/labels.h"
#include "tensor/parallel.h"
#include "tests/paths.h"

namespace glia {
namespace {

std::vector<std::string> contents(const std::filesystem::path& folder) {
  std::vector<std::string> all;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(folder)) {
    if (entry.is_regular_file()) all.push_back(entry.path().lexically_relative(folder).string() + ":" + read_file(entry.path()));
  }
  std::sort(all.begin(), all.end());
  return all;
}

bool same_picture(const SynthImage& a, const SynthImage& b) {
  return a.sample.id == b.sample.id && std::ranges::equal(a.image.values<uint8_t>(), b.image.values<uint8_t>()) &&
         std::ranges::equal(a.labels.values<int32_t>(), b.labels.values<int32_t>());
}

double mean_area(const SynthImage& picture) {
  double sum = 0;
  for (const Instance& i : picture.sample.instances) sum += static_cast<double>(area(i.mask));
  return sum / static_cast<double>(std::max<size_t>(1, picture.sample.instances.size()));
}

TEST_SUITE_BEGIN("data");

TEST_CASE("synth: a pure function of (options, index)") {
  for (const auto style : {SynthStyle::phase, SynthStyle::fluorescence}) {
    SynthOptions o{.height = 97, .width = 130, .style = style, .seed = 5};
    for (int64_t i = 0; i < 3; ++i) CHECK(same_picture(synth_image(o, i), synth_image(o, i)));
    CHECK_FALSE(same_picture(synth_image(o, 0), synth_image(o, 3)));
    const SynthImage first = synth_image(o, 0);
    o.seed = 6;
    CHECK_FALSE(same_picture(first, synth_image(o, 0)));
  }
}

TEST_CASE("synth: masks agree with the label map, are single pieces, and overlap little") {
  for (const auto style : {SynthStyle::phase, SynthStyle::fluorescence}) {
    for (int64_t index = 0; index < 6; ++index) {
      const SynthOptions o{.height = 260, .width = 352, .style = style, .seed = 11};
      const SynthImage s = synth_image(o, index);
      REQUIRE(!s.sample.instances.empty());
      CHECK(s.image.shape() == Shape{260, 352, 1});
      // Painting the masks in order gives the label map.
      std::vector<Rle> masks;
      int64_t pixels = 0;
      for (const Instance& i : s.sample.instances) {
        CHECK(i.category == static_cast<int>(index % 3));
        CHECK(i.box == bounding_box(i.mask));
        const Tensor mask = decode_mask(i.mask);
        const Tensor pieces = connected_components(mask, {.connectivity = 8});
        CHECK(std::ranges::max(pieces.values<int32_t>()) == 1);
        pixels += area(i.mask);
        masks.push_back(i.mask);
      }
      CHECK(std::ranges::equal(labels_of_masks(masks, 260, 352).values<int32_t>(), s.labels.values<int32_t>()));
      const int64_t covered = area(merge(masks));
      CHECK(static_cast<double>(pixels - covered) < 0.1 * static_cast<double>(covered));
    }
  }
}

TEST_CASE("synth: cells that the picture's edge cuts apart keep one piece") {
  int64_t cells = 0;
  for (int64_t index = 0; index < 150; ++index) {
    const SynthImage s = synth_image({.height = 48, .width = 48, .seed = 21, .density = 3}, index);
    for (const Instance& i : s.sample.instances) {
      ++cells;
      const Tensor pieces = connected_components(decode_mask(i.mask), {.connectivity = 8});
      CHECK(std::ranges::max(pieces.values<int32_t>()) == 1);
    }
  }
  CHECK(cells > 300);
}

TEST_CASE("synth: the classes resemble theirs in number and size, and touching and overlapping cells occur") {
  double count[3] = {}, size[3] = {}, pixel_mean = 0, contrast = 0;
  int64_t overlapping = 0, touching = 0;
  constexpr int rounds = 3;
  for (int64_t i = 0; i < 3 * rounds; ++i) {
    const SynthImage s = synth_image({.seed = 2}, i);
    count[i % 3] += static_cast<double>(s.sample.instances.size()) / rounds;
    size[i % 3] += mean_area(s) / rounds;
    double sum = 0, squares = 0;
    for (const uint8_t v : s.image.values<uint8_t>()) sum += v, squares += v * v;
    const double n = static_cast<double>(s.image.size());
    pixel_mean += sum / n / (3 * rounds);
    contrast += std::sqrt(squares / n - sum / n * sum / n) / (3 * rounds);
    std::vector<Rle> masks;
    int64_t pixels = 0;
    for (const Instance& instance : s.sample.instances) masks.push_back(instance.mask), pixels += area(instance.mask);
    overlapping += pixels - area(merge(masks));
    const int32_t* l = s.labels.data<int32_t>();
    for (int64_t p = 0; p + 1 < s.labels.size(); ++p) touching += l[p] && l[p + 1] && l[p] != l[p + 1];
  }
  CHECK((count[0] > 150 && count[0] < 600));  // shsy5y: dense
  CHECK((count[1] > 25 && count[1] < 130));   // astro
  CHECK((count[2] > 12 && count[2] < 80));    // cort: sparse
  CHECK((size[0] > 100 && size[0] < 350));
  CHECK((size[1] > 450 && size[1] < 1500));  // astro: large
  CHECK((size[2] > 120 && size[2] < 350));
  CHECK((pixel_mean > 110 && pixel_mean < 145));
  CHECK((contrast > 8 && contrast < 40));
  CHECK(overlapping > 500);
  CHECK(touching > 1000);
}

TEST_CASE("synth: files in the Sartorius layout, the same with 1 and 2 threads") {
  const tests::TemporaryFolder folder;
  const SynthOptions o{.images = 4, .height = 64, .width = 96, .classes = 2, .seed = 9};
  const int threads = num_threads();
  set_num_threads(1);
  const SynthSummary one = write_synth(o, folder / "one");
  set_num_threads(2);
  const SynthSummary two = write_synth(o, folder / "two");
  set_num_threads(threads);
  CHECK(one.images == 4);
  CHECK(one.instances == two.instances);
  CHECK(contents(folder / "one") == contents(folder / "two"));
  CHECK(contents(folder / "one").size() == 9);
  const SynthImage first = synth_image(o, 0);
  const Tensor written = read_image(folder / "one" / "train" / (first.sample.id + ".png")).pixels;
  CHECK(std::ranges::equal(written.values<uint8_t>(), first.image.values<uint8_t>()));
  const Tensor labels = read_image(folder / "one" / "labels" / (first.sample.id + ".png")).pixels;
  CHECK(std::ranges::equal(labels.values<int32_t>(), first.labels.values<int32_t>()));
  const std::string csv = read_file(folder / "one" / "train.csv");
  CHECK(std::count(csv.begin(), csv.end(), '\n') == one.instances + 1);
  CHECK(csv.find(to_pairs(first.sample.instances[0].mask)) != std::string::npos);
  CHECK(csv.find(",shsy5y,") != std::string::npos);
  CHECK_THROWS_WITH_AS(write_synth(o, folder / "one"), doctest::Contains("not empty"), IoError);
}

TEST_CASE("synth: impossible options are refused") {
  CHECK_THROWS_AS(check(SynthOptions{.images = 0}), UsageError);
  CHECK_THROWS_AS(check(SynthOptions{.height = 8}), UsageError);
  CHECK_THROWS_AS(check(SynthOptions{.width = 100000}), UsageError);
  CHECK_THROWS_AS(check(SynthOptions{.classes = 4}), UsageError);
  CHECK_THROWS_AS(check(SynthOptions{.density = 0}), UsageError);
  CHECK(synth_classes({}) == std::vector<std::string>{"shsy5y", "astro", "cort"});
}

TEST_SUITE_END();

}  // namespace
}  // namespace glia
