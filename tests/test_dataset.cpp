// Data sets and predictions in every layout give the same instances; statistics of check-data; what a loader gets.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>

#include "data/atomic_file.h"
#include "data/check_data.h"
#include "data/coco_json.h"
#include "data/dataset.h"
#include "data/rle.h"
#include "data/sartorius.h"
#include "data/split.h"
#include "data/synth.h"
#include "tests/paths.h"

namespace glia {
namespace {

namespace fs = std::filesystem;

// Six small synthetic pictures, masks without overlap (as a label map has them), in the Sartorius layout.
Dataset synthetic(const fs::path& folder) {
  write_synth({.images = 6, .height = 80, .width = 104, .seed = 4}, folder);
  return open_dataset(folder);
}

Dataset without_overlap(Dataset dataset) {
  for (Sample& s : dataset.samples) {
    std::vector<int32_t> labels;
    const std::vector<Rle> masks = masks_of_labels(labels_of_instances(s.instances, s.height, s.width), &labels);
    std::vector<Instance> instances;
    for (size_t i = 0; i < masks.size(); ++i) {
      Instance instance{.mask = masks[i], .category = s.instances[static_cast<size_t>(labels[i]) - 1].category};
      instance.box = bounding_box(masks[i]);
      instances.push_back(instance);
    }
    s.instances = std::move(instances);
  }
  return dataset;
}

const Sample& sample_of(const Dataset& dataset, const std::string& id) {
  const auto found = std::find_if(dataset.samples.begin(), dataset.samples.end(), [&](const Sample& s) { return s.id == id; });
  REQUIRE(found != dataset.samples.end());
  return *found;
}

// Same images, same masks in the same order; categories by name where they are known.
void check_same(const Dataset& a, const Dataset& b, bool categories = true) {
  REQUIRE(a.samples.size() == b.samples.size());
  for (const Sample& x : a.samples) {
    const Sample& y = sample_of(b, x.id);
    CHECK(x.height == y.height);
    CHECK(x.width == y.width);
    REQUIRE(x.instances.size() == y.instances.size());
    for (size_t i = 0; i < x.instances.size(); ++i) {
      CHECK(x.instances[i].mask == y.instances[i].mask);
      if (!categories) continue;
      CHECK(a.categories.at(static_cast<size_t>(x.instances[i].category)) ==
            b.categories.at(static_cast<size_t>(y.instances[i].category)));
    }
  }
}

void write_maps(const Dataset& dataset, const fs::path& folder, const std::string& ending = "") {
  fs::create_directories(folder);
  for (const Sample& s : dataset.samples)
    write_label_map(folder / (s.id + ending), labels_of_instances(s.instances, s.height, s.width));
}

TEST_SUITE_BEGIN("data");

TEST_CASE("data set: one content in every layout") {
  const tests::TemporaryFolder folder;
  const Dataset d = without_overlap(synthetic(folder / "s"));
  CHECK(d.categories == std::vector<std::string>{"shsy5y", "astro", "cort"});
  CHECK(d.samples.size() == 6);
  CHECK(describe_layout(folder / "s") == "Sartorius CSV");

  SUBCASE("COCO beside its images") {
    fs::create_directories(folder / "c");
    write_coco(folder / "c" / "all.json", d);
    for (const Sample& s : d.samples) fs::copy_file(s.file, folder / "c" / s.file.filename());
    check_same(d, open_dataset(folder / "c"));
    CHECK(describe_layout(folder / "c") == "COCO JSON");
  }
  SUBCASE("COCO with images/, with a link to the images, with --images, and without images") {
    fs::create_directories(folder / "c");
    write_coco(folder / "c" / "all.json", d);
    CHECK_THROWS_WITH_AS(open_dataset(folder / "c"), doctest::Contains("no such file"), DataError);
    check_same(d, open_dataset(folder / "c", {.images = folder / "s" / "train"}));
    const Dataset bare = open_dataset(folder / "c" / "all.json", {.need_images = false});
    check_same(d, bare);
    CHECK(bare.samples[0].file.empty());
    fs::create_directory_symlink(folder / "s" / "train", folder / "c" / "images");
    check_same(d, open_dataset(folder / "c"));
  }
  SUBCASE("a part of the images") {
    const Split split = split_samples(d, {.seed = 1});
    write_coco(folder / "s" / "part.json", subset(d, split.validation));
    check_same(subset(d, split.validation), open_dataset(folder / "s" / "part.json"));
  }
  SUBCASE("images/ and labels/") {
    fs::create_directories(folder / "l");
    fs::copy(folder / "s" / "train", folder / "l" / "images");
    write_maps(d, folder / "l" / "labels");
    const Dataset read = open_dataset(folder / "l");
    CHECK(read.categories == std::vector<std::string>{"cell"});
    check_same(d, read, false);
    CHECK(describe_layout(folder / "l") == "label maps");
  }
  SUBCASE("train/ and labels/ without a CSV") {
    fs::remove(folder / "s" / "train.csv");
    fs::remove_all(folder / "s" / "labels");
    write_maps(d, folder / "s" / "labels");
    check_same(d, open_dataset(folder / "s"), false);
  }
  SUBCASE("pairs in one folder") {
    for (const std::string ending : {"", "_img"}) {
      const fs::path pairs = folder / ("p" + ending);
      write_maps(d, pairs, "_masks");
      for (const Sample& s : d.samples) fs::copy_file(s.file, pairs / (s.id + ending + ".png"));
      check_same(d, open_dataset(pairs), false);
      CHECK(describe_layout(pairs) == "pairs of images and label maps");
    }
  }
}

TEST_CASE("data set: connected pieces of masks become instances") {
  const tests::TemporaryFolder folder;
  fs::create_directories(folder / "images");
  fs::create_directories(folder / "labels");
  Tensor mask = Tensor::zeros({20, 20}, DType::uint8);
  for (const int64_t i : {21, 22, 43, 300, 301}) mask.data<uint8_t>()[i] = 255;  // 43 touches 22 by a corner
  write_png(folder / "images" / "x.png", mask);
  write_png(folder / "labels" / "x.png", mask);
  CHECK_THROWS_WITH_AS(open_dataset(folder.path()), doctest::Contains("semantic mask"), DataError);
  const Dataset d = open_dataset(folder.path(), {.connected_components = true});
  REQUIRE(d.samples.at(0).instances.size() == 2);
  CHECK(area(d.samples[0].instances[0].mask) == 3);
  CHECK(d.samples[0].instances[0].box == Box{1, 1, 3, 2});
}

TEST_CASE("data set: label maps of 32 bits, with and without background") {
  const tests::TemporaryFolder folder;
  fs::create_directories(folder / "images");
  fs::create_directories(folder / "labels");
  write_png(folder / "images" / "x.png", Tensor::zeros({4, 5, 1}, DType::uint8));
  Tensor labels = Tensor::zeros({4, 5}, DType::int32);
  labels.data<int32_t>()[3] = 70000;
  labels.data<int32_t>()[4] = labels.data<int32_t>()[9] = 2'000'000'000;
  write_tiff(folder / "labels" / "x.tif", labels);
  const Dataset d = open_dataset(folder.path());
  REQUIRE(d.samples.at(0).instances.size() == 2);
  CHECK(area(d.samples[0].instances[0].mask) == 1);
  CHECK(area(d.samples[0].instances[1].mask) == 2);
  for (int32_t& v : labels.values<int32_t>()) v += 100000;
  write_tiff(folder / "labels" / "x.tif", labels);
  const Dataset full = open_dataset(folder.path());
  REQUIRE(full.samples.at(0).instances.size() == 3);
  CHECK(area(full.samples[0].instances[0].mask) == 17);
}

TEST_CASE("predictions: every kind, put beside the truth") {
  const tests::TemporaryFolder folder;
  const Dataset d = without_overlap(synthetic(folder / "s"));
  write_coco(folder / "truth.json", d);
  const Dataset coco_truth = open_dataset(folder / "truth.json", {.need_images = false});
  Dataset scored = d;
  for (Sample& s : scored.samples) {
    for (size_t i = 0; i < s.instances.size(); ++i) s.instances[i].score = 1 / static_cast<double>(i + 2);
  }
  write_coco_results(folder / "results.json", scored);
  write_submission(folder / "submission.csv", d);
  write_maps(d, folder / "maps");

  for (const Dataset* truth : {&d, &coco_truth}) {
    const Dataset results = open_predictions(folder / "results.json", *truth);
    check_same(d, results);
    CHECK(results.samples[0].instances.at(1).score == doctest::Approx(1.0 / 3));
    check_same(d, open_predictions(folder / "truth.json", *truth));
    check_same(d, open_predictions(folder / "submission.csv", *truth), false);
    check_same(d, open_predictions(folder / "maps", *truth), false);
  }

  SUBCASE("the folder that predict writes: results before label maps before the submission") {
    const fs::path run = folder / "run";
    fs::create_directories(run);
    fs::copy_file(folder / "submission.csv", run / prediction_files::submission);
    check_same(d, open_predictions(run, d), false);
    Dataset fewer = d;
    for (Sample& s : fewer.samples) s.instances.resize(1);
    write_maps(fewer, run / prediction_files::labels);
    check_same(fewer, open_predictions(run, d), false);
    fs::copy_file(folder / "results.json", run / prediction_files::coco);
    check_same(d, open_predictions(run, d));
  }
  SUBCASE("of a system that knows other categories: unclassified") {
    REQUIRE(d.categories.size() > 1);
    Dataset cells = d;
    cells.categories = {"cell"};
    for (Sample& s : cells.samples)
      for (Instance& i : s.instances) i.category = 0;
    write_coco_results(folder / "cells.json", cells);
    const Dataset results = open_predictions(folder / "cells.json", d);
    CHECK(results.categories == cells.categories);
    check_same(cells, results);
    CHECK(open_predictions(folder / "results.json", d).categories == d.categories);
    for (const char* name : {"submission.csv", "maps"}) CHECK(open_predictions(folder / name, d).categories.size() == 1);
    Dataset mixed = cells;
    mixed.categories.push_back(d.categories[0]);
    mixed.samples[0].instances[0].category = 1;
    write_coco_results(folder / "mixed.json", mixed);
    CHECK_THROWS_AS(open_predictions(folder / "mixed.json", d), DataError);
    mixed.categories = {"cell", "nucleus"};
    write_coco_results(folder / "others.json", mixed);
    CHECK_THROWS_AS(open_predictions(folder / "others.json", d), DataError);
  }
  SUBCASE("images without predictions have none, and are counted") {
    Dataset some = d;
    some.samples.erase(some.samples.begin() + 1, some.samples.begin() + 3);
    write_maps(some, folder / "some");
    write_coco_results(folder / "some.json", some);
    for (const char* name : {"some", "some.json"}) {
      Faults faults;
      const Dataset p = open_predictions(folder / name, d, {}, &faults);
      CHECK(p.samples.size() == 6);
      CHECK(p.samples[1].instances.empty());
      CHECK(faults.count("image without prediction") == 2);
    }
  }
  SUBCASE("unknown images, other sizes and nothing at all are refused") {
    const Dataset part = subset(d, {0, 1});
    for (const char* name : {"results.json", "truth.json", "submission.csv", "maps"}) {
      CHECK_THROWS_AS(open_predictions(folder / name, part), DataError);
    }
    Dataset other = d;
    other.samples[0].width += 1;
    for (const char* name : {"results.json", "truth.json", "maps"})
      CHECK_THROWS_AS(open_predictions(folder / name, other), DataError);
    fs::create_directories(folder / "empty");
    CHECK_THROWS_AS(open_predictions(folder / "empty", d), DataError);
    CHECK_THROWS_AS(open_predictions(folder / "nowhere", d), DataError);
  }
}

TEST_CASE("images to predict on: files, folders, data sets") {
  const tests::TemporaryFolder folder;
  const Dataset d = synthetic(folder / "s");
  CHECK(open_images({folder / "s"}).samples.size() == 6);
  const Dataset images = open_images({folder / "s" / "train"});
  CHECK(images.samples.size() == 6);
  CHECK(images.samples[0].height == 80);
  CHECK(images.samples[0].instances.empty());
  CHECK(open_images({d.samples[1].file, d.samples[3].file}).samples[1].id == d.samples[3].id);
  CHECK(open_images({folder / "s" / "train.csv"}).samples.size() == 6);
  CHECK_THROWS_WITH_AS(open_images({d.samples[1].file, folder / "s"}), doctest::Contains("one name"), DataError);
  CHECK_THROWS_AS(open_images({folder / "none"}), DataError);
}

TEST_CASE("images to predict on: COCO files need their images alone") {
  const tests::TemporaryFolder folder;
  const Dataset d = synthetic(folder / "s");
  std::string images;
  for (const Sample& s : d.samples)
    images += fmt::format(R"({}{{"id": {}, "file_name": "{}", "width": 104, "height": 80}})", images.empty() ? "" : ", ",
                          images.size(), s.file.filename().string());
  for (const char* rest :
       {"", R"(, "annotations": [], "categories": [])", R"(, "annotations": [], "categories": [{"id": 1, "name": "cell"}])",
        R"(, "annotations": {}, "categories": null)",
        R"(, "categories": 5, "annotations": [{"id": 1, "image_id": 99, "bbox": "x"}])"}) {
    CAPTURE(rest);
    write_file(folder / "c.json", "{\"images\": [" + images + "]" + rest + "}");
    const Dataset found = open_images({folder / "c.json"}, {.images = folder / "s" / "train"});
    REQUIRE(found.samples.size() == 6);
    CHECK(found.samples[0].id == d.samples[0].id);
  }
  write_file(folder / "c.json", "{\"annotations\": [], \"categories\": []}");
  CHECK_THROWS_WITH_AS(open_images({folder / "c.json"}), doctest::Contains("no list \"images\""), DataError);
}

TEST_CASE("data set: without any instance, where that is allowed") {
  const tests::TemporaryFolder folder;
  for (const char* annotations : {"[]", "{}"}) {
    write_file(folder / "c.json", fmt::format(R"({{"images": [{{"id": 1, "file_name": "a.png", "width": 4, "height": 4}}],
               "categories": [], "annotations": {}}})",
                                              annotations));
    CHECK_THROWS_WITH_AS(open_dataset(folder / "c.json", {.need_images = false}),
                         doctest::Contains("annotations is empty: 1 images, but not one instance"), DataError);
    CHECK(open_dataset(folder / "c.json", {.need_images = false, .instances = Instances::optional}).samples.size() == 1);
  }
}

TEST_CASE("a loader over a data set: label maps number the instances, categories go along") {
  const tests::TemporaryFolder folder;
  const Dataset d = synthetic(folder / "s");
  const Example example = read_example(d, 2);
  CHECK(example.image.shape() == Shape{80, 104, 1});
  CHECK(example.labels.shape() == Shape{80, 104});
  CHECK(example.id == d.samples[2].id);
  CHECK(example.categories.size() == d.samples[2].instances.size());
  CHECK(std::all_of(example.categories.begin(), example.categories.end(), [](int c) { return c == 2; }));
  Loader loader(6, [&](int64_t i) { return read_example(d, i); },
                {.batch_size = 2, .seed = 3, .epochs = 1, .workers = 2, .augment = {.hflip = true, .rotate = 20}});
  int64_t images = 0;
  while (auto batch = loader.next()) {
    for (const Example& e : batch->examples) {
      ++images;
      CHECK(std::ranges::max(e.labels.values<int32_t>()) == static_cast<int32_t>(e.categories.size()));
    }
  }
  CHECK(images == 6);
}

TEST_CASE("check-data: statistics") {
  const tests::TemporaryFolder folder;
  const Dataset d = synthetic(folder / "s");
  const DataReport r = check_data(folder / "s");
  CHECK_FALSE(r.stops());
  CHECK(r.images == 6);
  CHECK(r.layout == "Sartorius CSV");
  CHECK(r.sizes == std::map<std::string, int64_t>{{"80 x 104", 6}});
  CHECK(r.pixels == std::map<std::string, int64_t>{{"PNG 8 bit unsigned, 1 channel", 6}});
  int64_t instances = 0, covered = 0, sum_of_areas = 0;
  double sum = 0;
  for (const Sample& s : d.samples) {
    instances += static_cast<int64_t>(s.instances.size());
    for (const Instance& i : s.instances) sum_of_areas += area(i.mask);
    const Tensor labels = labels_of_instances(s.instances, s.height, s.width);
    for (const int32_t v : labels.values<int32_t>()) covered += v > 0;
    const Tensor pixels = read_pixels(s);
    for (const uint8_t v : pixels.values<uint8_t>()) sum += v;
  }
  CHECK(r.instances == instances);
  CHECK(r.overlapping_pixels == sum_of_areas - covered);
  CHECK(r.foreground.mean == doctest::Approx(static_cast<double>(covered) / (6 * 80 * 104)));
  CHECK(r.area.mean == doctest::Approx(static_cast<double>(sum_of_areas) / static_cast<double>(instances)));
  CHECK(r.mean_value == doctest::Approx(sum / (6 * 80 * 104)));
  CHECK(r.classes.size() == 3);
  CHECK(r.classes[1].name == "astro");
  CHECK(r.classes[1].images == 2);
  const Spread s = spread_of({4, 1, 3, 2});
  CHECK(s.min == 1);
  CHECK(s.p25 == 1.75);
  CHECK(s.median == 2.5);
  CHECK(s.max == 4);
  CHECK(spread_of({}).max == 0);
}

TEST_CASE("equal pictures of two data sets are found by content") {
  const tests::TemporaryFolder folder;
  const Dataset d = synthetic(folder / "s");
  fs::create_directories(folder / "other");
  fs::copy_file(d.samples[4].file, folder / "other" / "copy.png");
  write_png(folder / "other" / "new.png", Tensor::zeros({80, 104, 1}, DType::uint8));
  const auto equal = equal_pictures(d, open_images({folder / "other"}));
  REQUIRE(equal.size() == 1);
  CHECK(equal[0] == std::array<std::string, 2>{d.samples[4].id, "copy"});
}

TEST_SUITE_END();

}  // namespace
}  // namespace glia
