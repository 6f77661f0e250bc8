// CSV and Sartorius' train.csv: forms that are read and refused, faults by line, round trips.
#include <doctest/doctest.h>

#include <algorithm>
#include <fstream>
#include <string>

#include "data/csv.h"
#include "data/rle.h"
#include "data/sartorius.h"
#include "tests/data_error_of.h"
#include "tests/paths.h"

using namespace glia;
using tests::data_error_of;
using tests::has;
using tests::TemporaryFolder;
namespace fs = std::filesystem;

TEST_SUITE_BEGIN("data");

TEST_CASE("csv: forms that are read") {
  const auto read = [](std::string_view text) {
    std::vector<std::vector<std::string>> rows;
    CsvReader csv(text, "x.csv");
    rows.emplace_back(csv.header());
    while (csv.next()) rows.emplace_back(csv.fields().begin(), csv.fields().end());
    return rows;
  };
  using Rows = std::vector<std::vector<std::string>>;
  const Rows want{{"a", "b"}, {"1", "x y"}, {"2", ""}};
  CHECK(read("a,b\n1,x y\n2,\n") == want);
  CHECK(read("\xEF\xBB\xBF"
             "a,b\r\n1,x y\r\n\r\n2,") == want);
  CHECK(read("a;b\r1;x y\r2;\r") == want);
  CHECK(read("\n\"a\"\t\"b\"\n\"1\"\t\"x y\"\n2\t\"\"") == want);
  CHECK(read(" a , b\n1,x y\n2,\n") == want);
  CHECK(read("a;\"b,c,d\"\n1;2\n") == Rows{{"a", "b,c,d"}, {"1", "2"}});
  CHECK(read("a,b;c\n1,2\n") == Rows{{"a", "b;c"}, {"1", "2"}});  // as many of each: the comma
  CHECK(read("a,b\n\"1 \"\"q\"\" \",\"two\nlines\"\n\"\"\"\",\"\"\"\"\"\"\n") ==
        Rows{{"a", "b"}, {"1 \"q\" ", "two\nlines"}, {"\"", "\"\""}});
  CHECK(read("a\n1\n") == Rows{{"a"}, {"1"}});
  CsvReader csv("a,b\n\"1\n2\",3\n\n4,5\n", "x.csv");
  CHECK(csv.column("b") == 1);
  CHECK(!csv.has("c"));
  CHECK(has(data_error_of([&] { csv.column("c"); }), "no column \"c\"; its columns are a, b"));
  REQUIRE(csv.next());
  CHECK(csv.place() == "x.csv:2");
  REQUIRE(csv.next());
  CHECK(csv.place() == "x.csv:5");
  CHECK(csv[1] == "5");
  CHECK(!csv.next());
  CHECK(csv_field("a,b") == "\"a,b\"");
  CHECK(csv_field("a \"b\"") == "\"a \"\"b\"\"\"");
  CHECK(csv_field("plain text") == "plain text");
}

TEST_CASE("csv: forms that are refused") {
  const auto error = [](std::string_view text) {
    return data_error_of([&] {
      for (CsvReader csv(text, "x.csv"); csv.next();) {
      }
    });
  };
  CHECK(has(error(""), "x.csv: the file is empty"));
  CHECK(has(error("\n\r\n"), "empty"));
  CHECK(has(error("a,b\n1,2\n1,2,3\n"), "x.csv:3: 3 fields, but the header has 2"));
  CHECK(has(error("a,b\n1,2\n3"), "x.csv:3: 1 fields"));
  CHECK(has(error("a,b\n1,\"2\n3,4\n"), "x.csv:2: a quote is not closed"));
  CHECK(has(error("a,b\n1,\"2\"x\n"), "x.csv:2: text behind a closing quote"));
  CHECK(has(error(std::string_view("a,b\n1,\0\n", 8)), "x.csv:2: a zero byte"));
  CHECK(has(error(std::string_view("\xff\xfe"
                                   "a\0",
                                   4)),
            "UTF-16"));
  CHECK(has(error("a,a\n1,2\n"), "two columns \"a\""));
  const std::string limit(CsvReader::max_field, 'x');
  CHECK(error("a,b\n1," + limit + "\n") == "");
  CHECK(has(error("a,b\n1," + limit + "x\n"), "at most"));
  CHECK(has(error("a,b\n1,\"" + limit + "x\"\n"), "at most"));
}

namespace {

constexpr const char* sartorius_header = "id,annotation,width,height,cell_type\n";

// The first message, or all kinds of faults by name and count.
std::string sartorius_error(const std::string& rows) {
  TemporaryFolder folder;
  write_file(folder / "train.csv", sartorius_header + rows);
  Faults faults;
  const std::string message = data_error_of([&] { read_sartorius(folder / "train.csv", faults); });
  CHECK((message.empty() || message.starts_with((folder / "train.csv").string())));
  return message.substr(std::min(message.size(), (folder / "train.csv").string().size()));
}

Dataset two_images() {
  Dataset d;
  d.categories = {"astro", "cort, \"dense\""};
  d.samples.resize(2);
  d.samples[0] = {"a", {}, 4, 6, {}, ""};
  d.samples[1] = {"b,2", {}, 3, 3, {}, ""};
  for (const char* pairs : {"1 2 7 2", "12 1 17 2"}) {
    Instance i;
    i.mask = rle_from_pairs(pairs, 4, 6);
    i.category = d.samples[0].instances.empty() ? 1 : 0;
    i.box = bounding_box(i.mask);
    d.samples[0].instances.push_back(i);
  }
  return d;
}

}  // namespace

TEST_CASE("sartorius: faults name file, line, image and cause (R34)") {
  CHECK(sartorius_error("a,1 2,4,4,astro\na,,4,4,astro\nb,3 1,5.0,4.0,cort\n") == "");
  CHECK(has(sartorius_error("a,1 2,4,4,astro\na,1 2 9,4,4,astro\n"), ":3: image \"a\": run lengths: 3 numbers"));
  CHECK(has(sartorius_error("a,0 2,4,4,astro\n"), ":2: image \"a\": run lengths: pair 1 starts at 0"));
  CHECK(has(sartorius_error("a,-3 2,4,4,astro\n"), ":2: image \"a\": run lengths: '-3'"));
  CHECK(has(sartorius_error("a,3 0,4,4,astro\n"), "is empty"));
  CHECK(has(sartorius_error("a,16 1,4,4,astro\n"), "") == true);
  CHECK(sartorius_error("a,16 1,4,4,astro\n") == "");
  CHECK(has(sartorius_error("a,16 2,4,4,astro\n"), "ends at pixel 17, the image has 4 x 4 = 16"));
  CHECK(has(sartorius_error("a,9 2 3 2,4,4,astro\n"), "starts later"));
  CHECK(has(sartorius_error("a,3 4 5 2,4,4,astro\n"), "overlaps the pair before it"));
  CHECK(has(sartorius_error("a,x 2,4,4,astro\n"), "'x' as number 1"));
  CHECK(has(sartorius_error("a,1 2,0,4,astro\n"), ":2: image \"a\": width \"0\""));
  CHECK(has(sartorius_error("a,1 2,four,4,astro\n"), "width \"four\""));
  CHECK(has(sartorius_error("a,1 2,4000000000,4000000000,astro\n"), "at most 178956970 pixels"));
  CHECK(has(sartorius_error("a,1 2,4,4,astro\na,5 2,4,5,astro\n"), ":3: image \"a\": width 4 and height 5, but 4 and 4"));
  CHECK(has(sartorius_error("../a,1 2,4,4,astro\n"), ":2: id \"../a\" leads out"));
  CHECK(has(sartorius_error(",1 2,4,4,astro\n"), "the id is empty"));
  CHECK(has(sartorius_error("a,1 2,4,4,\n"), "cell_type is empty"));
  CHECK(has(sartorius_error("a,1 2,4,4\n"), ":2: 4 fields"));
  // a disc of 11 pixels across, written column by column
  Tensor disc = Tensor::zeros({40, 90}, DType::uint8);
  for (int y = 0; y < 40; ++y)
    for (int x = 0; x < 90; ++x) disc.data<uint8_t>()[y * 90 + x] = (y - 20) * (y - 20) + (x - 50) * (x - 50) < 30;
  const Rle rle = encode_mask(disc);
  CHECK(sartorius_error("a," + to_pairs(rle) + ",90,40,astro\n") == "");
  const std::string columns = to_pairs(rle, PixelOrder::column);
  CHECK(has(sartorius_error("a," + columns + ",90,40,astro\n"), "1 of 1 masks are whole only when read column by column"));

  TemporaryFolder folder;
  write_file(folder / "train.csv",
             std::string(sartorius_header) +
                 "a,1,4,4,astro\na,0 1,4,4,astro\na,1 2,4,4,astro\na,1 2,4,4,astro\na,,4,4,x\nb,,4,4,x\n..,1 1,4,4,x\na,1");
  Faults faults(true);
  const Dataset d = read_sartorius(folder / "train.csv", faults);
  CHECK(faults.count("run that starts at 0") == 1);
  CHECK(faults.count("odd number of run lengths") == 1);
  CHECK(faults.count("annotation twice") == 1);
  CHECK(faults.count("empty mask") == 1);
  CHECK(faults.count("wrong id") == 1);
  CHECK(faults.count("damaged CSV") == 1);
  CHECK(d.samples.at(0).instances.size() == 2);
  for (const auto& [rows, empty] : {std::pair{"a,1 2,4,4,x\na,,4,4,x\n", 1}, {"a,,4,4,x\na,,4,4,x\n", 2}, {"a,,4,4,x\n", 0}}) {
    write_file(folder / "train.csv", std::string(sartorius_header) + rows);  // an image's only row may be empty
    Faults found;
    read_sartorius(folder / "train.csv", found);
    CHECK(found.count("empty mask") == empty);
  }
}

TEST_CASE("sartorius: what is written comes back") {
  TemporaryFolder folder;
  const Dataset want = two_images();
  write_sartorius(folder / "train.csv", want);
  Faults faults;
  const Dataset got = read_sartorius(folder / "train.csv", faults);
  REQUIRE(got.samples.size() == 2);
  CHECK(got.samples[1].id == "b,2");
  CHECK(got.samples[1].instances.empty());
  REQUIRE(got.samples[0].instances.size() == 2);
  for (size_t i = 0; i < 2; ++i) {
    const Instance &a = got.samples[0].instances[i], &b = want.samples[0].instances[i];
    CHECK(a.mask == b.mask);
    CHECK(a.box == b.box);
    CHECK(got.categories.at(static_cast<size_t>(a.category)) == want.categories.at(static_cast<size_t>(b.category)));
  }
}

TEST_CASE("sartorius: submissions") {
  TemporaryFolder folder;
  const fs::path path = folder / "submission.csv";
  Dataset want = two_images();
  write_submission(path, want);
  CHECK(read_file(path) == "id,predicted\na,1 2 7 2\na,12 1 17 2\n\"b,2\",\n");
  Faults faults;
  const Dataset got = read_submission(path, want, faults);
  REQUIRE(got.samples.size() == 2);
  CHECK(got.samples[0].instances.size() == 2);
  CHECK(got.samples[0].instances[1].mask == want.samples[0].instances[1].mask);
  want.samples[0].instances[1].mask = rle_from_pairs("2 3", 4, 6);
  CHECK(has(data_error_of([&] { write_submission(path, want); }), "instances overlap"));
  CHECK(read_submission(path, want, faults).samples[0].instances.size() == 2);  // the old file is still there
  const auto error = [&](const char* text) {
    write_file(path, text);
    return data_error_of([&] { read_submission(path, want, faults); });
  };
  CHECK(has(error("id,predicted\nz,1 2\n"), ":2: image \"z\" is not among the 2"));
  CHECK(has(error("id,x\na,1 2\n"), "no column \"predicted\""));
  CHECK(has(error("id,predicted,cell_type\na,1 2,cell\n"), "cell_type \"cell\"; the truth has astro"));
  CHECK(has(error("id,predicted,score\na,1 2,1.5\n"), "score \"1.5\""));
  CHECK(error("id,predicted,score,cell_type\na,1 2,0.25,\"cort, \"\"dense\"\"\"\n") == "");
  const Instance instance = read_submission(path, want, faults).samples[0].instances.at(0);
  CHECK(instance.score == 0.25);
  CHECK(instance.category == 1);
}

TEST_SUITE_END();
