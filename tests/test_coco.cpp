// COCO JSON in and out: the two ways there and back, order of the lists, limits. Broken files: test_dataset.cpp.
#include <doctest/doctest.h>

#include "data/atomic_file.h"
#include "data/coco_json.h"
#include "data/rle.h"
#include "tests/paths.h"

namespace glia {
namespace {

Dataset toy_dataset() {
  Dataset d{{"shsy5y", "a \"quoted\" name\n"}, {}, {}};
  for (int64_t i = 0; i < 3; ++i) {
    Sample s{fmt::format("image{}", i), {}, 7, 9 + i, {}, {}};
    for (int64_t j = 0; j < 2 * i; ++j) {
      Tensor mask = Tensor::zeros({7, 9 + i}, DType::uint8);
      for (int64_t k = 0; k < 5; ++k) mask.data<uint8_t>()[(3 * j + k * 7) % mask.size()] = 1;
      Instance instance{.mask = encode_mask(mask),
                        .category = static_cast<int>(j % 2),
                        .score = 0.125 * static_cast<double>(j + 1),
                        .crowd = j == 3};
      instance.box = bounding_box(instance.mask);
      s.instances.push_back(instance);
    }
    d.samples.push_back(s);
  }
  return d;
}

void check_same(const Dataset& a, const Dataset& b, bool with_scores) {
  CHECK(a.categories == b.categories);
  REQUIRE(a.samples.size() == b.samples.size());
  for (size_t i = 0; i < a.samples.size(); ++i) {
    CHECK(a.samples[i].id == b.samples[i].id);
    CHECK(a.samples[i].height == b.samples[i].height);
    CHECK(a.samples[i].width == b.samples[i].width);
    REQUIRE(a.samples[i].instances.size() == b.samples[i].instances.size());
    for (size_t j = 0; j < a.samples[i].instances.size(); ++j) {
      const Instance &x = a.samples[i].instances[j], &y = b.samples[i].instances[j];
      CHECK(x.mask == y.mask);
      CHECK(x.category == y.category);
      CHECK(x.box == y.box);
      if (with_scores) CHECK(x.score == y.score);
      if (!with_scores) CHECK(x.crowd == y.crowd);
    }
  }
}

TEST_SUITE_BEGIN("data");

TEST_CASE("coco: written data sets and results are read back the same") {
  const tests::TemporaryFolder folder;
  const Dataset d = toy_dataset();
  for (const CocoMasks form : {CocoMasks::compressed, CocoMasks::counts}) {
    write_coco(folder / "d.json", d, {.masks = form});
    Faults faults;
    const CocoFile read = read_coco(folder / "d.json", faults);
    check_same(d, read.dataset, false);
    CHECK(read.file_names == std::vector<std::string>{"image0.png", "image1.png", "image2.png"});
    CHECK(faults.list().empty());
    CHECK_FALSE(is_coco_results(folder / "d.json"));

    write_coco_results(folder / "r.json", d, form);
    CHECK(is_coco_results(folder / "r.json"));
    check_same(d, read_coco_results(folder / "r.json", d, faults), true);             // image ids by name
    check_same(d, read_coco_results(folder / "r.json", read.dataset, faults), true);  // truth with ids of its own
    Dataset with_ids = read.dataset;
    for (Sample& s : with_ids.samples) s.instances = d.samples[static_cast<size_t>(&s - with_ids.samples.data())].instances;
    write_coco_results(folder / "r.json", with_ids, form);
    CHECK(read_file(folder / "r.json").find("\"image_id\":3,") != std::string::npos);
    check_same(d, read_coco_results(folder / "r.json", read.dataset, faults), true);
  }
}

TEST_CASE("coco: the data set of the fixtures") {
  Faults faults;
  const Dataset d = read_coco(tests::fixtures_folder() / "data" / "sartorius_coco.json", faults).dataset;
  CHECK(d.categories == std::vector<std::string>{"shsy5y", "astro", "cort"});
  CHECK(d.category_ids == std::vector<int64_t>{1, 2, 3});
  REQUIRE(d.samples.size() == 3);
  CHECK(d.samples[0].id == "0a1b2c000000");
  CHECK(d.samples[0].height == 36);
  CHECK(d.samples[0].source_id == "1");
  CHECK(area(d.samples[0].instances.at(0).mask) == 248);
  CHECK(d.samples[0].instances[0].area == 248);
  CHECK(d.samples[0].instances[0].box == Box{30, 0, 18, 20});
}

TEST_CASE("coco: lists in any order, unknown keys, polygons, text ids, a byte order mark, NaN") {
  const tests::TemporaryFolder folder;
  const std::string images =
      R"("images": [{"id": "left", "file_name": "sub/a.b.tif", "width": 10, "height": 8, "x": {"id": [1, {"id": 2}]}}])";
  const std::string categories = R"("categories": [{"name": "cell", "id": 7, "keypoints": ["a"]}])";
  const std::string annotations =
      R"("annotations": [{"segmentation": [[1, 1, 4, 1, 4, 3, 1, 3], [6, 5, 8, 5, 8, 7, 6, 7]], "iscrowd": 0, "id": 1, "category_id": 7,
         "image_id": "left", "bbox": [1, 1, 7, 6], "area": 10.5, "extra": {"segmentation": [[1]]}},
        {"segmentation": [[NaN, 1, 4, 1, 4, 3]], "id": 2, "category_id": 7, "image_id": "left"},
        {"segmentation": {"size": [8, 10], "counts": [0, 80]}, "iscrowd": 1, "id": 3, "category_id": 7, "image_id": "left"}])";
  for (const std::string& text : {"{" + images + "," + categories + "," + annotations + "}",
                                  "\xEF\xBB\xBF{" + annotations + "," + images + ", \"info\": [[]]," + categories + "}",
                                  "{" + images + "," + annotations + "," + categories + "}"}) {
    write_file(folder / "c.json", text);
    Faults faults;
    const CocoFile file = read_coco(folder / "c.json", faults);
    const Dataset& d = file.dataset;
    REQUIRE(d.samples.size() == 1);
    CHECK(d.samples[0].id == "a.b");
    CHECK(file.file_names[0] == "sub/a.b.tif");
    CHECK(d.category_ids == std::vector<int64_t>{7});
    REQUIRE(d.samples[0].instances.size() == 2);
    CHECK(area(d.samples[0].instances[0].mask) == 3 * 2 + 2 * 2);
    CHECK(d.samples[0].instances[0].area == 10.5);
    CHECK(d.samples[0].instances[1].crowd);
    CHECK(faults.count("polygon with NaN") == 1);
  }
}

TEST_CASE("coco: numbers to the last bit, of any length; objects where polygons belong (F4)") {
  const tests::TemporaryFolder folder;
  const auto read = [&folder](const std::string& annotation, Faults& faults) {
    write_file(folder / "c.json", R"({"images": [{"id": 18446744073709551616, "file_name": "a.png", "width": 10, "height": 8}],)"
                                  R"("categories": [{"id": -7, "name": "cell"}], "annotations": [)" +
                                      annotation + "]}");
    return read_coco(folder / "c.json", faults).dataset;
  };
  const std::string head = R"({"id": 1, "image_id": 18446744073709551616, "category_id": -7, )",
                    mask = R"("segmentation": [[1, 1, 4, 1, 4, 3, 1, 3]])";
  {
    Faults faults;
    const std::string zeros(400, '0');
    const Dataset d = read(
        head + R"("tiny": 1e-999, "area": 0.1000000000000000055511151231257827021181583404541015625, "bbox": [1e0, 10E-1, 3.)" +
            zeros + ", 2.0" + zeros + "1], " + mask + "}",
        faults);
    CHECK(d.category_ids == std::vector<int64_t>{-7});
    REQUIRE(d.samples.at(0).instances.size() == 1);
    CHECK(d.samples[0].instances[0].area == 0.1);
    CHECK(d.samples[0].instances[0].box == Box{1, 1, 3, 2});
  }
  const auto fault = [&](const std::string& annotation) -> std::string {
    Faults faults;
    try {
      read(annotation, faults);
    } catch (const DataError& e) {
      return e.what();
    }
    return "";
  };
  const std::string digits = "1" + std::string(400, '0');
  CHECK(fault(head + R"("area": )" + digits + ", " + mask + "}").find("too") != std::string::npos);
  CHECK(fault(head + R"("area": 1e999, )" + mask + "}").find("too big") != std::string::npos);
  for (const char* shape : {R"([{"id": 7}])", R"([[1, 1, 4, 1, 4, 3], {"x": [2]}])", R"([[1, 1, {"x": 3}, 4, 1, 4, 3]])",
                            R"({"size": {"a": 1}, "counts": [1]})"}) {
    CAPTURE(shape);
    CHECK(fault(head + R"("segmentation": )" + shape + "}").find("an object where a list of polygons") != std::string::npos);
  }
}

TEST_CASE("coco: entries by key instead of lists, as some copies of LIVECell have them") {
  const tests::TemporaryFolder folder;
  const std::string images = R"("images": {"0": {"id": 10, "file_name": "a.tif", "width": 10, "height": 8}})";
  const std::string annotations =
      R"("annotations": {"7": {"segmentation": [[1, 1, 4, 1, 4, 3, 1, 3]], "id": 7, "category_id": 1, "image_id": 10, "bbox": [1, 1, 3, 2]},
         "id": {"segmentation": [[6, 5, 8, 5, 8, 7, 6, 7]], "id": 8, "category_id": 1, "image_id": 10, "bbox": [6, 5, 2, 2]}})";
  const std::string categories = R"("categories": [{"name": "cell", "id": 1}])";
  for (const std::string& text :
       {"{" + images + "," + categories + "," + annotations + "}", "{" + annotations + "," + images + "," + categories + "}"}) {
    write_file(folder / "c.json", text);
    Faults faults;
    const Dataset d = read_coco(folder / "c.json", faults).dataset;
    CHECK(faults.list().empty());
    REQUIRE(d.samples.size() == 1);
    REQUIRE(d.samples[0].instances.size() == 2);
    CHECK(d.samples[0].instances[1].box == Box{6, 5, 2, 2});
  }
  write_file(folder / "c.json",
             "{" + images + "," + categories + R"(, "annotations": {"5": {"image_id": 11, "category_id": 1}}})");
  Faults faults;
  CHECK_THROWS_WITH_AS(read_coco(folder / "c.json", faults), doctest::Contains("annotation [0]: image id '11'"), DataError);
}

TEST_CASE("coco results: text names an image, only a number is an id") {
  const tests::TemporaryFolder folder;
  Dataset truth{{"cell"}, {}, {1}};
  truth.samples = {{"7", {}, 4, 4, {}, "1"}, {"1", {}, 4, 4, {}, "7"}, {"a.b", {}, 4, 4, {}, "left"}};
  const auto image_of = [&](const std::string& id) {
    write_file(folder / "r.json", R"([{"image_id": )" + id + R"(, "category_id": 1, "bbox": [0, 0, 2, 2], "score": 1}])");
    Faults faults;
    const Dataset found = read_coco_results(folder / "r.json", truth, faults);
    for (size_t i = 0; i < found.samples.size(); ++i)
      if (!found.samples[i].instances.empty()) return found.samples[i].id;
    return std::string();
  };
  CHECK(image_of("1") == "7");
  CHECK(image_of("\"1\"") == "1");
  CHECK(image_of("\"1.png\"") == "1");
  CHECK(image_of("\"a.b\"") == "a.b");
  CHECK(image_of("\"sub/a.b.tif\"") == "a.b");
  CHECK(image_of("\"left\"") == "a.b");
  truth.samples[1].id = "other";  // now nothing is called 1; as an id it would be the first image's
  CHECK_THROWS_WITH_AS(image_of("\"1\""), doctest::Contains("image_id \"1\" is text, so a file name"), DataError);
  CHECK_THROWS_WITH_AS(image_of("\"none\""), doctest::Contains("image_id \"none\""), DataError);
  CHECK_THROWS_WITH_AS(image_of("null"), doctest::Contains("entry 0 has no image_id"), DataError);
}

TEST_CASE("coco results: categories that the truth lacks") {
  const tests::TemporaryFolder folder;
  Faults faults;
  const auto read = [&](const std::vector<std::string>& names, std::vector<std::string> categories) {
    std::string text;
    for (const std::string& name : names)
      text += (text.empty() ? "[" : ",") +
              (R"({"image_id": 1, "bbox": [0, 0, 2, 2], "score": 1, "category_id": 2, "category_name": ")" + name + "\"}");
    write_file(folder / "r.json", text + "]");
    Dataset truth{std::move(categories), {{"a", {}, 4, 4, {}, "1"}}, {}};
    return read_coco_results(folder / "r.json", truth, faults);
  };
  // A truth of one category takes all; the warning comes once.
  for (const std::vector<std::string>& names : std::vector<std::vector<std::string>>{
           {"large", "nucleus", "nucleus"}, {"nucleus", "large", "nucleus"}, {"nucleus", "other", "nucleus"}}) {
    const int64_t before = faults.count("category that the truth lacks");
    const Dataset found = read(names, {"large"});
    CHECK(found.categories == std::vector<std::string>{"unclassified"});
    REQUIRE(found.samples[0].instances.size() == 3);
    for (const Instance& i : found.samples[0].instances) CHECK(i.category == 0);
    CHECK(faults.count("category that the truth lacks") == before + 1);
  }
  CHECK(read({"nucleus", "nucleus"}, {"large"}).categories == std::vector<std::string>{"nucleus"});
  CHECK(read({"nucleus"}, {}).samples[0].instances.size() == 1);
  // The message lists the truth's categories, not what the results made of them.
  CHECK_THROWS_WITH_AS(read({"nucleus", "large"}, {"large", "small"}),
                       doctest::Contains("category 'nucleus' beside others, want one of 1 (large), 2 (small)"), DataError);
  CHECK_THROWS_WITH_AS(read({"large", "nucleus"}, {"large", "small"}),
                       doctest::Contains("category 'nucleus', want one of 1 (large), 2 (small)"), DataError);
}

TEST_CASE("coco: what stands where entries or numbers are wanted is named") {
  const tests::TemporaryFolder folder;
  const std::string rest =
      R"({"images": [{"id": 1, "file_name": "a.png", "width": 4, "height": 4}], "categories": [{"id": 1, "name": "c"}], "annotations": )";
  Faults faults;
  for (const auto& [value, message] : std::vector<std::pair<std::string, std::string>>{
           {"5", "\"annotations\" is a number, want a list"},
           {"\"x\"", "\"annotations\" is a string, want a list"},
           {"null", "\"annotations\" is null, want a list"},
           {"true", "\"annotations\" is true or false, want a list"},
           {"[3]", "annotations[0] is a number, want an object"},
           {"[[1]]", "annotations[0] is a list, want an object"},
           {R"({"id": 1, "image_id": 1})", "\"annotations\" is an object whose \"id\" is a number: want a list"},
           {R"([{"id": 4, "category_id": 1}])", "annotation 4 has no image_id"}}) {
    write_file(folder / "c.json", rest + value + "}");
    CHECK_THROWS_WITH_AS(read_coco(folder / "c.json", faults), doctest::Contains(message.c_str()), DataError);
  }
  const Dataset truth{{"c"}, {{"a", {}, 4, 4, {}, "1"}}, {1}};
  for (const auto& [value, message] : std::vector<std::pair<std::string, std::string>>{
           {"[3]", "entry 0 is a number, want an object"},
           {R"([{"image_id": 1, "category_id": 1, "bbox": [0, 0, 2, 2], "score": "0.5"}])",
            "a string where a number in score was expected"},
           {R"([{"image_id": [1], "category_id": 1}])", "a list where a number or a string in image_id was expected"}}) {
    write_file(folder / "r.json", value);
    CHECK_THROWS_WITH_AS(read_coco_results(folder / "r.json", truth, faults), doctest::Contains(message.c_str()), DataError);
  }
}

TEST_CASE("coco: limits hold at limit + 1 and not at the limit") {
  const tests::TemporaryFolder folder;
  const auto read = [&](const std::string& text, const CocoLimits& limits) {
    write_file(folder / "c.json", text);
    Faults faults;
    return read_coco(folder / "c.json", faults, limits);
  };
  const std::string rest =
      R"("images": [{"id": 1, "file_name": "a.png", "width": 4, "height": 4}], "categories": [{"id": 1, "name": "c"}], "annotations": [)";
  const auto nested = [&](int depth) {
    return "{\"info\": " + std::string(static_cast<size_t>(depth), '[') + std::string(static_cast<size_t>(depth), ']') + "," +
           rest + "]}";
  };
  CHECK_NOTHROW(read(nested(63), {}));
  CHECK_THROWS_WITH_AS(read(nested(64), {}), doctest::Contains("nested deeper than 64 levels"), DataError);
  const auto text = [&](size_t n) { return "{\"info\": \"" + std::string(n, 'x') + "\"," + rest + "]}"; };
  CHECK_NOTHROW(read(text(1000), {.string_bytes = 1000}));
  CHECK_THROWS_WITH_AS(read(text(1001), {.string_bytes = 1000}), doctest::Contains("a string of more than 1000 bytes"),
                       DataError);
  const std::string one = R"({"id": %, "image_id": 1, "category_id": 1, "segmentation": {"size": [4, 4], "counts": [1, 15]}})";
  const auto instances = [&](int n) {
    std::string all = "{" + rest;
    for (int i = 0; i < n; ++i) all += (i ? "," : "") + std::string(one).replace(one.find('%'), 1, std::to_string(i));
    return all + "]}";
  };
  CHECK(read(instances(5), {.instances = 5}).dataset.samples[0].instances.size() == 5);
  CHECK_THROWS_WITH_AS(read(instances(6), {.instances = 5}), doctest::Contains("more than 5 instances"), DataError);
  CHECK_THROWS_WITH_AS(read("{" + rest + "]}", {.pixels = 15}), doctest::Contains("at most 15 pixels"), DataError);
}

TEST_CASE("coco: every cut of a file is an error, never a part") {
  const tests::TemporaryFolder folder;
  write_coco(folder / "d.json", toy_dataset());
  std::string text = read_file(folder / "d.json");
  while (text.back() != '}') text.pop_back();
  for (size_t n = 0; n < text.size(); n += n < 40 ? 1 : 13) {
    write_file(folder / "cut.json", std::string_view(text).substr(0, n));
    Faults faults;
    CHECK_THROWS_AS(read_coco(folder / "cut.json", faults), DataError);
  }
}

TEST_SUITE_END();

}  // namespace
}  // namespace glia
