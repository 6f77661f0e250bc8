// Broken COCO JSON, one fault each.
#include <doctest/doctest.h>

#include "data/atomic_file.h"
#include "tests/data_fault_case.h"

namespace glia::tests {
namespace {

// One more annotation of image 1.
std::function<void(const fs::path&)> annotation(const std::string& fields) {
  return [fields](const fs::path& folder) {
    Coco c;
    c.annotations += ", {\"id\": 2, \"image_id\": 1, \"category_id\": 1, " + fields + "}";
    coco(folder, c);
  };
}
std::function<void(const fs::path&)> raw_annotation(const std::string& object) {
  return [object](const fs::path& folder) {
    Coco c;
    c.annotations += ", " + object;
    coco(folder, c);
  };
}

std::vector<DataFaultCase> coco_cases() {
  const auto with = [](std::function<void(Coco&)> change) {
    return [change](const fs::path& f) {
      Coco c;
      change(c);
      coco(f, c);
    };
  };
  const auto text = [](const std::string& json) {
    return [json](const fs::path& f) {
      coco(f, {});
      write_file(f / "annotations.json", json);
    };
  };
  const std::string mask = R"("segmentation": {"size": [10, 12], "counts": [30, 2, 88]})";
  const ExitCode ok = ExitCode::ok, data = ExitCode::data;
  const Severity stop = Severity::stop, warn = Severity::warn, drop = Severity::drop, note = Severity::note;
  return {
      {"fine", with([](Coco&) {}), ok, note, ""},
      {"crowd", annotation(R"("iscrowd": 1, )" + mask), ok, note, ""},
      {"zero bytes", text(""), data, stop, "annotations.json"},
      {"not JSON", text("id,annotation\n"), data, stop, "not JSON"},
      {"cut off", text(R"({"images": [{"id": 1, "file_na)"), data, stop, "cut off?"},
      {"after the end", text(R"({"images": [], "annotations": [], "categories": []} x)"), data, stop, "not JSON"},
      {"too deep", text(std::string(100000, '[')), ExitCode::data, stop, "results file"},
      {"too deep within", text("{\"x\":" + std::string(100000, '[')), data, stop, "nested deeper than 64"},
      {"no annotations", text(R"({"images": [], "categories": []})"), data, stop, "\"annotations\""},
      {"empty lists", text(R"({"images": [], "annotations": [], "categories": []})"), data, stop, "no images"},
      {"no annotation", with([](Coco& c) { c.annotations.clear(); }), data, stop, "no annotation"},
      {"results file", text("[]"), ExitCode::data, stop, "results file"},
      {"category out of range", raw_annotation(R"({"id": 9, "image_id": 1, "category_id": 3, )" + mask + "}"), data, stop,
       "annotation 9 of image 'a': category 3, want one of 1 (astro), 5 (cort)"},
      {"category missing", raw_annotation(R"({"id": 9, "image_id": 1, )" + mask + "}"), data, stop, "category missing"},
      {"annotation id twice", raw_annotation(R"({"id": 1, "image_id": 2, "category_id": 1, )" + mask + "}"), data, stop,
       "annotation id twice"},
      {"annotation without image", raw_annotation(R"({"id": 9, "image_id": 77, "category_id": 1, )" + mask + "}"), data, stop,
       "image id '77'"},
      {"image id twice", with([](Coco& c) { c.images += R"(, {"id": 1, "file_name": "c.png", "width": 12, "height": 10})"; }),
       data, stop, "image id twice"},
      {"image name twice", with([](Coco& c) { c.images += R"(, {"id": 3, "file_name": "a.png", "width": 12, "height": 10})"; }),
       data, stop, "image name twice"},
      {"image without id", with([](Coco& c) { c.images += R"(, {"file_name": "c.png", "width": 12, "height": 10})"; }), data,
       stop, "no id"},
      {"image width 0", with([](Coco& c) { c.images += R"(, {"id": 3, "file_name": "c.png", "width": 0, "height": 10})"; }), data,
       stop, "impossible image size"},
      {"image size beyond the cap",
       with([](Coco& c) { c.images += R"(, {"id": 3, "file_name": "c.png", "width": 1e9, "height": 1e9})"; }), data, stop,
       "impossible image size"},
      {"width is text", with([](Coco& c) { c.images += R"(, {"id": 3, "file_name": "c.png", "width": "12", "height": 10})"; }),
       data, stop, "wrong type"},
      {"category id twice", with([](Coco& c) { c.categories += R"(, {"id": 5, "name": "again"})"; }), data, stop,
       "category id 5 occurs twice"},
      {"name leads outside",
       with([](Coco& c) { c.images += R"(, {"id": 3, "file_name": "../../x.png", "width": 12, "height": 10})"; }), data, stop,
       "leads out"},
      {"absolute name", with([](Coco& c) { c.images += R"(, {"id": 3, "file_name": "/etc/x.png", "width": 12, "height": 10})"; }),
       data, stop, "leads out"},
      {"missing image", with([](Coco& c) { c.images += R"(, {"id": 3, "file_name": "c.png", "width": 12, "height": 10})"; }),
       data, stop, "missing image"},
      {"image of another size", with([](Coco& c) {
         c.images =
             R"({"id": 1, "file_name": "a.png", "width": 12, "height": 10}, {"id": 2, "file_name": "b.png", "width": 13, "height": 10})";
       }),
       data, stop, "its annotation says 10 x 13"},
      {"mask of another size", annotation(R"("segmentation": {"size": [10, 13], "counts": [30, 2, 98]})"), data, stop,
       "the mask has size [10, 13]"},
      {"mask size swapped", annotation(R"("segmentation": {"size": [12, 10], "counts": [30, 2, 88]})"), data, stop, "swapped?"},
      {"mask without size", annotation(R"("segmentation": {"counts": [30, 2, 88]})"), data, stop, "the mask has size []"},
      {"counts too few", annotation(R"("segmentation": {"size": [10, 12], "counts": [30, 2, 8]})"), data, stop, "add up to 40"},
      {"counts too many", annotation(R"("segmentation": {"size": [10, 12], "counts": [30, 2, 89]})"), data, stop, "run lengths"},
      {"negative count", annotation(R"("segmentation": {"size": [10, 12], "counts": [30, -2, 92]})"), data, stop,
       "count 2 is -2"},
      {"broken mask string", annotation(R"("segmentation": {"size": [10, 12], "counts": "1 2 3"})"), data, stop,
       "COCO mask string"},
      {"fraction in counts", annotation(R"("segmentation": {"size": [10, 12], "counts": [30.5, 2, 87.5]})"), data, stop,
       "wrong type"},
      {"segmentation is text", annotation(R"("segmentation": "30 2")"), data, stop, "wrong type"},
      {"empty mask", annotation(R"("segmentation": {"size": [10, 12], "counts": [120]})"), ok, drop, "empty mask"},
      {"polygon of two points", annotation(R"("segmentation": [[1, 1, 5, 5]])"), ok, drop, "fewer than 3 points"},
      {"polygon with odd numbers", annotation(R"("segmentation": [[1, 1, 5, 5, 1, 5, 3]])"), ok, drop, "odd number of values"},
      {"polygon with NaN", annotation(R"("segmentation": [[1, 1, NaN, 5, 1, 5]])"), ok, drop, "polygon with NaN"},
      {"polygon outside", annotation(R"("segmentation": [[50, 50, 60, 50, 60, 60]])"), ok, drop, "empty mask"},
      {"no polygon", annotation(R"("segmentation": [])"), ok, drop, "empty mask"},
      {"self-crossing polygon", annotation(R"("segmentation": [[2, 5, 8, 9, 8, 5, 2, 9]])"), ok, note, ""},
      {"box only", annotation(R"("bbox": [3, 4, 5, 5])"), ok, warn, "box without segmentation"},
      {"box of no area", annotation(R"("bbox": [3, 4, 0, 5])"), ok, drop, "empty mask"},
      {"ids from 0", with([](Coco& c) {
         c.images = R"({"id": 0, "file_name": "a.png", "width": 12, "height": 10})";
         c.categories = R"({"id": 0, "name": "cell"})";
         c.annotations = R"({"id": 0, "image_id": 0, "category_id": 0, "segmentation": [[2, 2, 8, 2, 8, 8]]})";
       }),
       ok, note, ""},
      {"annotation without image id", raw_annotation(R"({"id": 9, "category_id": 1, )" + mask + "}"), data, stop,
       "annotation 9 has no image_id"},
      {"annotation without id", raw_annotation(R"({"image_id": 1, "category_id": 1, )" + mask + "}"), ok, note, ""},
      {"polygon of no size", annotation(R"("segmentation": [[6.5, 8.3, 6.5, 8.3, 6.7, 8.3, 6.7, 8.3]])"), ok, drop, "empty mask"},
      {"polygon without points", annotation(R"("segmentation": [[]])"), ok, drop, "fewer than 3 points"},
      {"segmentation null", annotation(R"("segmentation": null, "bbox": [3, 4, 5, 5])"), ok, warn, "box without segmentation"},
      {"bbox is text", annotation(R"("bbox": "3 4 5 5", )" + mask), data, stop, "wrong type"},
      {"bbox of no width", annotation(R"("bbox": [3, 0, 0, 2], )" + mask), ok, warn, "box that is none"},
      {"bbox of three numbers", annotation(R"("bbox": [3, 0, 1], )" + mask), ok, warn, "bbox [3, 0, 1] is not x, y and"},
      {"bbox as corners", annotation(R"("bbox": [4, 4, 8, 8], "segmentation": [[4, 4, 8, 4, 8, 8, 4, 8]])"), ok, warn,
       "corners instead of"},
      {"neither mask nor box", annotation(R"("area": 3)"), ok, drop, "annotation without segmentation"},
  };
}

TEST_SUITE_BEGIN("data");

TEST_CASE("broken data: COCO JSON") {
  for (const DataFaultCase& c : coco_cases()) check_data_fault(c);
}

TEST_SUITE_END();

}  // namespace
}  // namespace glia::tests
