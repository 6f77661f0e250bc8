// Broken data sets, one fault each: what check-data and open_dataset say, with which exit code, and that the input stays as it was.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <functional>

#include "data/atomic_file.h"
#include "data/check_data.h"
#include "data/image_io.h"
#include "tests/paths.h"

namespace glia {
namespace {

namespace fs = std::filesystem;

constexpr int64_t height = 10, width = 12;

// Gray picture whose pixels differ from seed to seed.
Tensor picture(int seed, int64_t h = height, int64_t w = width, int64_t channels = 1) {
  Tensor image({h, w, channels}, DType::uint8);
  for (int64_t i = 0; i < image.size(); ++i) image.data<uint8_t>()[i] = static_cast<uint8_t>(i * 7 + seed * 31);
  return image;
}

constexpr const char* header = "id,annotation,width,height,cell_type\n";

// a.png and b.png with these rows.
void sartorius(const fs::path& folder, const std::string& csv) {
  fs::create_directories(folder / "train");
  write_png(folder / "train" / "a.png", picture(1));
  write_png(folder / "train" / "b.png", picture(2));
  write_file(folder / "train.csv", csv);
}
std::string rows(const std::string& more) {
  return std::string(header) + "a,1 3 13 3,12,10,astro\nb,14 2 26 2,12,10,cort\n" + more;
}

// a.png, b.png and an annotations.json whose parts can be replaced.
struct Coco {
  std::string images =
      R"({"id": 1, "file_name": "a.png", "width": 12, "height": 10}, {"id": 2, "file_name": "b.png", "width": 12, "height": 10})";
  std::string categories = R"({"id": 1, "name": "astro"}, {"id": 5, "name": "cort"})";
  std::string annotations =
      R"({"id": 1, "image_id": 1, "category_id": 1, "iscrowd": 0, "segmentation": {"size": [10, 12], "counts": [3, 2, 115]}})";
};
void coco(const fs::path& folder, const Coco& c) {
  write_png(folder / "a.png", picture(1));
  write_png(folder / "b.png", picture(2));
  write_file(folder / "annotations.json", "{\"images\": [" + c.images + "], \"categories\": [" + c.categories +
                                              "], \"annotations\": [" + c.annotations + "]}");
}
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

Tensor label_map(std::initializer_list<std::pair<int64_t, int32_t>> pixels) {
  Tensor labels = Tensor::zeros({height, width}, DType::int32);
  for (const auto& [at, value] : pixels) labels.data<int32_t>()[at] = value;
  return labels;
}
void labelled(const fs::path& folder, const Tensor& labels) {
  fs::create_directories(folder / "images");
  fs::create_directories(folder / "labels");
  write_png(folder / "images" / "a.png", picture(1));
  write_png(folder / "labels" / "a.png", labels);
}
Tensor bytes(const Tensor& labels) { return labels.cast(DType::uint8); }

constexpr std::optional<ExitCode> thrown{};  // no data set at all: an exception (exit 3) instead of a report

struct Case {
  const char* name;
  std::function<void(const fs::path&)> make;
  std::optional<ExitCode> code;
  Severity severity;   // of the fault
  const char* phrase;  // in the fault's kind or examples, or the error's message; "" = no fault at all
  DatasetOptions options{};
  const char* file = "";  // within the folder: what is opened
};

std::vector<Case> csv_cases() {
  const auto with = [](const std::string& more) { return [more](const fs::path& f) { sartorius(f, rows(more)); }; };
  const auto whole = [](const std::string& csv) { return [csv](const fs::path& f) { sartorius(f, csv); }; };
  const ExitCode ok = ExitCode::ok, data = ExitCode::data;
  const Severity stop = Severity::stop, warn = Severity::warn, drop = Severity::drop, note = Severity::note;
  return {
      {"fine", with(""), ok, note, ""},
      {"BOM, CRLF and semicolons",
       whole("\xEF\xBB\xBFid;annotation;width;height;cell_type\r\na;1 3;12;10;x\r\nb;5 3;12;10;x\r\n"), ok, note, ""},
      {"no column annotation", whole("id,width,height\na,12,10\n"), data, stop, "annotation"},
      {"no column width", whole("id,annotation,height\na,1 2,10\n"), data, stop, "width"},
      {"a submission", whole("id,predicted\na,1 2\n"), data, stop, "a submission"},
      {"zero bytes", whole(""), data, stop, "train.csv"},
      {"header only", whole(header), data, stop, "no annotation"},
      {"unclosed quote", with("a,\"1 2,12,10,astro\n"), data, stop, "quote"},
      {"too few fields", with("a,1 2\n"), data, stop, "fields"},
      {"empty id", with(",1 2,12,10,astro\n"), data, stop, "the id is empty"},
      {"odd number", with("a,30 2 50,12,10,astro\n"), data, stop, "odd number of run lengths"},
      {"start 0", with("a,0 2,12,10,astro\n"), data, stop, "run that starts at 0"},
      {"negative start", with("a,-3 2,12,10,astro\n"), data, stop, "run length that is no number"},
      {"length 0", with("a,3 0,12,10,astro\n"), data, stop, "run of length 0"},
      {"not a number", with("a,3 x,12,10,astro\n"), data, stop, "run length that is no number"},
      {"beyond the image", with("a,119 3,12,10,astro\n"), data, stop, "run beyond the image"},
      {"overlapping runs", with("a,30 5 32 2,12,10,astro\n"), data, stop, "runs that overlap"},
      {"unsorted runs", with("a,50 2 30 2,12,10,astro\n"), data, stop, "run lengths out of order"},
      {"size changes", with("a,30 2,12,11,astro\n"), data, stop, "image size changes"},
      {"width 0", with("c,1 2,0,10,astro\n"), data, stop, "impossible image size"},
      {"width is text", with("c,1 2,wide,10,astro\n"), data, stop, "impossible image size"},
      {"size beyond the cap", with("c,1 2,2000000000,2000000000,astro\n"), data, stop, "impossible image size"},
      {"no run lengths", with("a,,12,10,astro\n"), ok, drop, "empty mask"},
      {"row twice", with("b,14 2 26 2,12,10,cort\n"), ok, warn, "annotation twice"},
      {"overlapping instances", with("a,2 5,12,10,astro\n"), ok, warn, "overlapping instances"},
      {"small instance, by option", with(""), ok, drop, "small instance", {.min_area = 5}},
      {"nothing left, by option", with(""), data, stop, "no annotation", {.min_area = 50}},
      {"column by column",
       [](const fs::path& f) {
         std::string csv = header;  // 10 x 12: bars of 2 x 4 pixels, counted down the columns of a higher image
         fs::create_directories(f / "train");
         write_png(f / "train" / "a.png", picture(1, 60, 80));
         for (int i = 0; i < 6; ++i) {
           std::string runs;
           for (int x = 0; x < 12; ++x) runs += fmt::format("{}{} 12", x ? " " : "", (12 * i + x) * 60 + 5 + 1);
           csv += "a," + runs + ",80,60,astro\n";
         }
         write_file(f / "train.csv", csv);
       },
       data, stop, "run lengths in the other order"},
      {"id leads outside", with("../secret,1 2,12,10,astro\n"), data, stop, "leads out"},
      {"absolute id", with("/etc/passwd,1 2,12,10,astro\n"), data, stop, "leads out"},
  };
}

std::vector<Case> image_cases() {
  const auto replaced = [](std::function<void(const fs::path&)> change) {
    return [change](const fs::path& f) {
      sartorius(f, rows(""));
      change(f / "train");
    };
  };
  const ExitCode ok = ExitCode::ok, data = ExitCode::data;
  const Severity stop = Severity::stop, warn = Severity::warn, drop = Severity::drop, note = Severity::note;
  return {
      {"missing image", replaced([](const fs::path& t) { fs::remove(t / "a.png"); }), data, stop, "missing image"},
      {"missing image, skipped",
       replaced([](const fs::path& t) { fs::remove(t / "a.png"); }),
       ok,
       drop,
       "missing image",
       {.skip_corrupt = true}},
      {"0-byte image", replaced([](const fs::path& t) { write_file(t / "a.png", ""); }), data, stop, "image that cannot be read"},
      {"text as image", replaced([](const fs::path& t) { write_file(t / "a.png", "hello"); }), data, stop, "a.png"},
      {"truncated image", replaced([](const fs::path& t) {
         const std::string content = read_file(t / "a.png");
         write_file(t / "a.png", content.substr(0, content.size() - 30));
       }),
       data, stop, "image that cannot be read"},
      {"truncated image, skipped",
       replaced([](const fs::path& t) {
         const std::string content = read_file(t / "a.png");
         write_file(t / "a.png", content.substr(0, content.size() - 30));
       }),
       ok,
       drop,
       "image that cannot be read",
       {.skip_corrupt = true}},
      {"flipped byte", replaced([](const fs::path& t) {
         std::string content = read_file(t / "a.png");
         content[content.size() / 2] ^= 0x55;
         write_file(t / "a.png", content);
       }),
       data, stop, "image that cannot be read"},
      {"another size", replaced([](const fs::path& t) { write_png(t / "a.png", picture(1, 10, 13)); }), data, stop,
       "image size is not the annotation's"},
      {"another size, skipped",
       replaced([](const fs::path& t) { write_png(t / "a.png", picture(1, 10, 13)); }),
       ok,
       drop,
       "10 x 13",
       {.skip_size_mismatch = true}},
      {"height and width swapped", replaced([](const fs::path& t) { write_png(t / "a.png", picture(1, 12, 10)); }), data, stop,
       "swapped?"},
      {"mixed channels", replaced([](const fs::path& t) { write_png(t / "b.png", picture(1, 10, 12, 3)); }), data, stop,
       "mixed channel counts"},
      {"RGB throughout", replaced([](const fs::path& t) {
         write_png(t / "a.png", picture(1, 10, 12, 3));
         write_png(t / "b.png", picture(2, 10, 12, 3));
       }),
       ok, note, ""},
      {"16 bits", replaced([](const fs::path& t) { write_png(t / "b.png", picture(3).cast(DType::int32)); }), ok, note, ""},
      {"constant image", replaced([](const fs::path& t) {
         write_png(t / "b.png", Tensor::full({10, 12, 1}, 9, DType::uint8));
       }),
       ok, warn, "constant image"},
      {"the same picture twice", replaced([](const fs::path& t) { write_png(t / "b.png", picture(1)); }), ok, warn,
       "the same picture twice"},
      {"image without annotation", replaced([](const fs::path& t) { write_png(t / "c.png", picture(3)); }), ok, note,
       "image without annotation"},
      {"one name, two files", replaced([](const fs::path& t) { write_tiff(t / "a.tif", picture(3)); }), data, stop,
       "image name twice"},
      {"NaN pixel", replaced([](const fs::path& t) {
         Tensor x = Tensor::zeros({10, 12});
         x.data<float>()[5] = NAN;
         fs::remove(t / "b.png");
         write_tiff(t / "b.tif", x);
       }),
       data, stop, "NaN"},
      {"several pages", replaced([](const fs::path& t) {
         fs::remove(t / "b.png");
         write_tiff(t / "b.tif", Tensor::zeros({3, 10, 12, 1}, DType::uint8));
       }),
       data, stop, "image of several pages"},
      {"link that leads outside", replaced([](const fs::path& t) {
         fs::rename(t / "a.png", t.parent_path().parent_path() / "outside.png");
         fs::create_symlink("../../outside.png", t / "a.png");
       }),
       data, stop, "leads out"},
      {"link that leads outside, allowed",
       replaced([](const fs::path& t) {
         fs::rename(t / "a.png", t.parent_path().parent_path() / "outside.png");
         fs::create_symlink("../../outside.png", t / "a.png");
       }),
       ok,
       note,
       "",
       {.allow_outside = true}},
      {"name that is no UTF-8",
       [](const fs::path& f) {
         sartorius(f, std::string(header) + "\xE9\xFF,1 3,12,10,x\n");
         fs::remove(f / "train" / "a.png");
         fs::rename(f / "train" / "b.png", f / "train" / "\xE9\xFF.png");
       },
       ok, note, ""},
  };
}

std::vector<Case> coco_cases() {
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

std::vector<Case> folder_cases() {
  const auto map = [](const Tensor& labels) { return [labels](const fs::path& f) { labelled(f, labels); }; };
  const ExitCode ok = ExitCode::ok, data = ExitCode::data;
  const Severity stop = Severity::stop, warn = Severity::warn, note = Severity::note;
  return {
      {"ids with gaps", map(label_map({{3, 7}, {40, 2}, {80, 30000}})), ok, note, ""},
      {"0/255 mask", map(bytes(label_map({{3, 255}, {40, 255}}))), data, stop, "--labels connected-components"},
      {"0/255 mask, by pieces", map(bytes(label_map({{3, 255}, {40, 255}}))), ok, note, "", {.connected_components = true}},
      {"0/65535 mask", map(label_map({{3, 65535}, {40, 65535}})), data, stop, "semantic mask"},
      {"0/1 mask in pieces", map(bytes(label_map({{3, 1}, {40, 1}}))), data, stop, "one id per cell"},
      {"one cell", map(bytes(label_map({{3, 1}, {4, 1}}))), ok, note, ""},
      {"RGB label map", map(picture(3, 10, 12, 3)), data, stop, "a label map of shape"},
      {"label map of another size", map(Tensor::full({10, 11}, 3, DType::int32)), data, stop, "its annotation says 10 x 11"},
      {"float label map",
       [](const fs::path& f) {
         labelled(f, label_map({{3, 1}}));
         fs::remove(f / "labels" / "a.png");
         write_tiff(f / "labels" / "a.tif", Tensor::full({10, 12}, 0.5));
       },
       data, stop, "want whole numbers"},
      {"32-bit ids",
       [](const fs::path& f) {
         labelled(f, label_map({{3, 1}}));
         fs::remove(f / "labels" / "a.png");
         write_tiff(f / "labels" / "a.tif", label_map({{3, 70000}, {4, 2000000000}}));
       },
       ok, note, ""},
      {"no label at all", map(label_map({})), data, stop, "no annotation"},
      {"label map without image",
       [](const fs::path& f) {
         labelled(f, label_map({{3, 2}}));
         write_png(f / "labels" / "b.png", label_map({{3, 2}}));
       },
       data, stop, "missing image"},
      {"image without label map",
       [](const fs::path& f) {
         labelled(f, label_map({{3, 2}}));
         write_png(f / "images" / "b.png", picture(2));
       },
       ok, warn, "image without label map"},
      {"broken label map",
       [](const fs::path& f) {
         labelled(f, label_map({{3, 2}}));
         write_file(f / "labels" / "a.png", "x");
       },
       data, stop, "label map that cannot be read"},
      {"empty folder", [](const fs::path&) {}, thrown, stop, "not a data set"},
      {"several COCO files",
       [](const fs::path& f) {
         coco(f, {});
         write_file(f / "other.json", "{}");
       },
       thrown, stop, "several COCO files"},
      {"several COCO files, one named",
       [](const fs::path& f) {
         coco(f, {});
         write_file(f / "other.json", "{}");
       },
       ok,
       note,
       "",
       {},
       "annotations.json"},
      {"no such path", [](const fs::path&) {}, thrown, stop, "no such file", {}, "nothing"},
      {"labels without images", [](const fs::path& f) { fs::create_directories(f / "labels"); }, thrown, stop,
       "neither images/ nor train/"},
      {"no data set at all",
       [](const fs::path& f) { write_file(f / "x.txt", "x"); },
       thrown,
       stop,
       "not a data set",
       {},
       "x.txt"},
  };
}

std::vector<std::string> contents(const fs::path& folder) {
  std::vector<std::string> all;
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    all.push_back(entry.path().string() + (entry.is_regular_file() ? read_file(entry.path()) : ""));
  }
  std::sort(all.begin(), all.end());
  return all;
}

bool mentions(const Fault& fault, const std::string& phrase) {
  return fault.kind.find(phrase) != std::string::npos ||
         std::any_of(fault.examples.begin(), fault.examples.end(),
                     [&](const std::string& e) { return e.find(phrase) != std::string::npos; });
}

std::string listing(const DataReport& report) {
  std::string text;
  for (const Fault& f : report.faults)
    text += fmt::format("[{} {}: {}] ", name_of(f.severity), f.kind, f.examples.empty() ? "" : f.examples[0]);
  return text;
}

void run_case(const Case& c) {
  const std::string name = c.name;
  CAPTURE(name);
  const tests::TemporaryFolder temporary;
  const fs::path folder = temporary / "data";
  fs::create_directories(folder);
  c.make(folder);
  const auto before = contents(temporary.path());
  const fs::path path = *c.file ? folder / c.file : folder;

  if (!c.code) {
    try {
      check_data(path, c.options);
      FAIL_CHECK("no error");
    } catch (const Error& error) {
      CHECK(int(error.code()) == int(ExitCode::data));
      CHECK(std::string(error.what()).find(c.phrase) != std::string::npos);
    }
    return;
  }
  const DataReport report = check_data(path, c.options);
  CAPTURE(listing(report));
  CHECK(int(report.exit_code()) == int(*c.code));
  CHECK(to_text(report).find(c.phrase) != std::string::npos);
  CHECK(to_json(report).find(c.code == ExitCode::ok ? "\"ok\":true" : "\"ok\":false") != std::string::npos);
  if (*c.phrase) {
    const auto found =
        std::find_if(report.faults.begin(), report.faults.end(), [&](const Fault& f) { return mentions(f, c.phrase); });
    REQUIRE(found != report.faults.end());
    CHECK(int(found->severity) == int(c.severity));
  } else {
    CHECK(report.faults.empty());
  }
  // A training opens the data and reads the pixels: it stops for the same reason, and only then.
  int code = 0;
  try {
    const Dataset dataset = open_dataset(path, c.options);
    for (size_t i = 0; i < dataset.samples.size(); ++i) read_example(dataset, static_cast<int64_t>(i));
  } catch (const Error& error) {
    code = int(error.code());
  }
  if (c.code != ExitCode::ok || !c.options.skip_corrupt) CHECK(code == int(*c.code));
  CHECK(contents(temporary.path()) == before);
}

TEST_SUITE_BEGIN("data");

TEST_CASE("broken data: CSV") {
  for (const Case& c : csv_cases()) run_case(c);
}
TEST_CASE("broken data: images") {
  for (const Case& c : image_cases()) run_case(c);
}
TEST_CASE("broken data: COCO JSON") {
  for (const Case& c : coco_cases()) run_case(c);
}
TEST_CASE("broken data: label maps and folders") {
  for (const Case& c : folder_cases()) run_case(c);
}

TEST_CASE("faults: counted once per kind, all of them found, in order of severity") {
  const tests::TemporaryFolder folder;
  std::string more;
  for (int i = 0; i < 9; ++i) more += "a,,12,10,astro\n";
  sartorius(folder.path(), rows(more + "a,0 2,12,10,astro\na,5,12,10,astro\nb,0 1,12,10,astro\n"));
  const DataReport report = check_data(folder.path());
  REQUIRE(report.faults.size() == 3);
  CHECK(report.faults[0].kind == "run that starts at 0");
  CHECK(report.faults[0].count == 2);
  CHECK(report.faults[1].kind == "odd number of run lengths");
  CHECK(report.faults[2].kind == "empty mask");
  CHECK(report.faults[2].count == 9);
  CHECK(report.faults[2].examples.size() == Faults::max_examples);
}

TEST_SUITE_END();

}  // namespace
}  // namespace glia
