// Broken tables, label maps and folders, one fault each; faults are counted.
#include <doctest/doctest.h>

#include "data/atomic_file.h"
#include "data/image_io.h"
#include "tests/data_fault_case.h"
#include "tests/paths.h"

namespace glia::tests {
namespace {

Tensor label_map(std::initializer_list<std::pair<int64_t, int32_t>> pixels) {
  Tensor labels = Tensor::zeros({10, 12}, DType::int32);
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

std::vector<DataFaultCase> csv_cases() {
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
      {"header only", whole(csv_header), data, stop, "no annotation"},
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
         std::string csv = csv_header;  // 10 x 12: bars of 2 x 4 pixels, counted down the columns of a higher image
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

std::vector<DataFaultCase> folder_cases() {
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

TEST_SUITE_BEGIN("data");

TEST_CASE("broken data: CSV") {
  for (const DataFaultCase& c : csv_cases()) check_data_fault(c);
}
TEST_CASE("broken data: label maps and folders") {
  for (const DataFaultCase& c : folder_cases()) check_data_fault(c);
}

TEST_CASE("faults: counted once per kind, all of them found, in order of severity") {
  const TemporaryFolder folder;
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
}  // namespace glia::tests
