// Batches and data sets for detectors: the endless chain of batches, examples without instances, LIVECell's files.
#include <doctest/doctest.h>

#include <map>

#include "data/atomic_file.h"
#include "data/dataset.h"
#include "data/detection_augment.h"
#include "data/image_io.h"
#include "data/loader.h"
#include "data/rle.h"
#include "data/sampling.h"
#include "tests/detection_fixture.h"
#include "tests/paths.h"

namespace glia {
namespace {

using namespace tests;

// What detectron2's samplers do, one example after another.
std::vector<std::vector<Drawn>> simulated(int64_t n, int64_t batch, const std::vector<uint8_t>& groups, uint64_t seed,
                                          size_t count) {
  std::vector<std::vector<Drawn>> batches;
  std::map<int, std::vector<Drawn>> waiting;
  for (int64_t epoch = 0;; ++epoch) {
    for (const int64_t index : epoch_order(n, seed, epoch)) {
      std::vector<Drawn>& bucket = waiting[groups.empty() ? 0 : groups[size_t(index)]];
      bucket.push_back({epoch, index});
      if (static_cast<int64_t>(bucket.size()) < batch) continue;
      batches.push_back(std::move(bucket));
      bucket.clear();
      if (batches.size() == count) return batches;
    }
  }
}

TEST_SUITE_BEGIN("data");

TEST_CASE("endless chain: every batch, asked for alone, is the one of the samplers that run on and on") {
  for (const int64_t n : {1, 2, 7, 20}) {
    for (const int64_t batch : {1, 2, 3, 8}) {
      for (const int kind : {0, 1, 2}) {
        std::vector<uint8_t> groups;
        for (int64_t i = 0; i < n && kind > 0; ++i) groups.push_back(kind == 1 ? uint8_t(i % 3 == 0) : uint8_t(i == 0));
        const EndlessChain chain(n, batch, groups, [n](int64_t epoch) {
          return std::make_shared<const std::vector<int64_t>>(epoch_order(n, 5, epoch));
        });
        const auto expected = simulated(n, batch, groups, 5, 60);
        for (size_t i = expected.size(); i-- > 0;) CHECK(chain.batch(static_cast<int64_t>(i)) == expected[i]);
      }
    }
  }
  const auto order = [](int64_t) { return std::make_shared<const std::vector<int64_t>>(epoch_order(3, 1, 0)); };
  CHECK_THROWS_AS(EndlessChain(3, 1, {0, 1}, order), Error);
}

TEST_CASE("loader, endless: the same batches with any workers and from any step; epochs of floor(n / batch) batches") {
  LoaderOptions o;
  o.batch_size = 3, o.seed = 7, o.endless = true;
  o.detection = everything();
  for (int64_t i = 0; i < 10; ++i) o.groups.push_back(i % 4 == 0);
  const auto run = [&](int workers, bool cache, int64_t start, int count) {
    LoaderOptions with = o;
    with.workers = workers, with.cache = cache, with.prefetch = 3;
    with.first_epoch = start / 3, with.first_position = start % 3;
    Loader loader(
        10, [](int64_t i) { return overlapping_example(i); }, with);
    CHECK(loader.batches_per_epoch() == 3);
    std::vector<Batch> batches;
    for (int i = 0; i < count; ++i) batches.push_back(*loader.next());
    return batches;
  };
  const std::vector<Batch> expected = run(0, false, 0, 14);
  const auto simulation = simulated(10, 3, o.groups, 7, 14);
  for (size_t i = 0; i < expected.size(); ++i) {
    CHECK(expected[i].epoch == static_cast<int64_t>(i) / 3);
    CHECK(expected[i].last_of_epoch == (i % 3 == 2));
    REQUIRE(expected[i].examples.size() == 3);
    for (size_t j = 0; j < 3; ++j) {
      CHECK(expected[i].examples[j].index == simulation[i][j].index);
      CHECK(o.groups[size_t(expected[i].examples[j].index)] == o.groups[size_t(expected[i].examples[0].index)]);
    }
  }
  for (const auto& [number, drawn] : {std::pair{1, simulation[1][0]}, {12, simulation[12][2]}}) {
    Example e = overlapping_example(drawn.index);
    augment_detection(e.image, e.instances, *o.detection, 7, drawn.epoch, drawn.index);
    const Example& got = expected[size_t(number)].examples[number == 1 ? 0 : 2];
    CHECK(same_bits(got.image, e.image));
    CHECK(same(got.instances, e.instances));
  }
  CHECK(simulation[12][2].epoch > 0);
  const auto check_same = [&](const std::vector<Batch>& batches, size_t start) {
    for (size_t i = 0; i < batches.size(); ++i) {
      for (size_t j = 0; j < 3; ++j) {
        CHECK(same_bits(batches[i].examples[j].image, expected[start + i].examples[j].image));
        CHECK(same(batches[i].examples[j].instances, expected[start + i].examples[j].instances));
      }
    }
  };
  for (const int workers : {1, 2, 5}) check_same(run(workers, workers == 2, 0, 14), 0);
  for (const int64_t start : {1, 3, 7, 11}) check_same(run(2, false, start, 3), size_t(start));

  o.epochs = 2, o.workers = 0, o.keep_examples = false;
  Loader two(
      10, [](int64_t i) { return overlapping_example(i); }, o);
  int count = 0;
  while (auto batch = two.next()) {
    ++count;
    CHECK(batch->examples[0].instances.empty());
    CHECK_FALSE(batch->examples[0].image);
  }
  CHECK(count == 6);
  o.endless = false;
  CHECK_THROWS_WITH(Loader(
                        10, [](int64_t i) { return overlapping_example(i); }, o),
                    doctest::Contains("groups"));
}

TEST_CASE("data sets: images without an instance are left out or stay; groups by shape") {
  Dataset d{{"cell"}, {}, {}};
  const auto add = [&](const char* id, int64_t height, int64_t width, std::vector<bool> crowds) {
    d.samples.push_back({id, {}, height, width, {}, {}});
    for (const bool crowd : crowds) {
      d.samples.back().instances.push_back(disc(5, 5, 3, height, width));
      d.samples.back().instances.back().crowd = crowd;
    }
  };
  add("a", 20, 30, {false, true}), add("b", 30, 20, {}), add("c", 20, 20, {true}), add("d", 40, 20, {false});
  CHECK(aspect_groups(d) == std::vector<uint8_t>{0, 1, 1, 1});
  CHECK(drop_unannotated(d) == 2);
  CHECK(d.samples.size() == 2);
  CHECK(d.samples[1].id == "d");
}

TEST_CASE("data sets: LIVECell's files: TIFF in folders by cell type, polygons that overlap, a crowd") {
  namespace fs = std::filesystem;
  const tests::TemporaryFolder folder;
  for (const char* type : {"A172", "BV2"}) {
    fs::create_directories(folder / "images" / type);
    write_tiff(folder / "images" / type / fmt::format("{}_Phase_1.tif", type), noise_image(20, 30));
  }
  write_file(folder / "livecell_coco_train.json",
             R"({"images": [{"id": 1, "width": 30, "height": 20, "file_name": "BV2_Phase_1.tif", "url": "x"},
                            {"id": 2, "width": 30, "height": 20, "file_name": "A172_Phase_1.tif"}],
                 "categories": [{"id": 1, "name": "cell"}],
                 "annotations": [{"id": 1, "image_id": 2, "category_id": 1, "iscrowd": 0, "bbox": [4, 4, 10, 8.5], "area": 80,
                                  "segmentation": [[4, 4, 14, 4, 14, 12.5, 4, 12.5]]},
                                 {"id": 2, "image_id": 2, "category_id": 1, "iscrowd": 1, "bbox": [0, 0, 5, 5],
                                  "segmentation": {"size": [20, 30], "counts": [0, 5, 595]}},
                                 {"id": 3, "image_id": 2, "category_id": 1, "iscrowd": 0, "bbox": [10, 8, 10, 8],
                                  "segmentation": [[10, 8, 20, 8, 20, 16, 10, 16]]}]})");
  Faults faults;
  Dataset d = open_dataset(folder / "livecell_coco_train.json", {.images = folder / "images"}, &faults);
  CHECK(faults.list().empty());
  REQUIRE(d.samples.size() == 2);
  CHECK(d.samples[0].file == folder / "images" / "BV2" / "BV2_Phase_1.tif");
  const Example e = read_detection_example(d, 1);
  CHECK(e.id == "A172_Phase_1");
  CHECK(same_bits(e.image, noise_image(20, 30)));
  CHECK_FALSE(e.labels);
  REQUIRE(e.instances.size() == 2);  // without the crowd
  CHECK(e.instances[0].box == Box{4, 4, 10, 8.5});
  CHECK(intersection_area(e.instances[0].mask, e.instances[1].mask) > 0);
  CHECK(read_detection_example(d, 0).instances.empty());
  CHECK(drop_unannotated(d) == 1);

  fs::copy_file(folder / "images" / "A172" / "A172_Phase_1.tif", folder / "images" / "BV2" / "A172_Phase_1.tif");
  CHECK_THROWS_WITH_AS(open_dataset(folder / "livecell_coco_train.json", {.images = folder / "images"}),
                       doctest::Contains("in several folders"), DataError);
}

TEST_SUITE_END();

}  // namespace
}  // namespace glia
