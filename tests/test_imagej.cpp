// Outlines as ImageJ keeps them.
#include <doctest/doctest.h>

#include "data/imagej_roi.h"
#include "tests/bytes_of.h"
#include "tests/data_error_of.h"
#include "tests/paths.h"

using namespace glia;
using namespace glia::tests;

TEST_SUITE_BEGIN("data");

TEST_CASE("imagej: outlines come back") {
  TemporaryFolder folder;
  ImagejRoi roi{.name = "c\xC3\xA9ll \xF0\x9F\x94\xAC 1/2",
                .type = ImagejRoi::Type::traced,
                .points = {{1, 2}, {5, 2}, {5, 9}},
                .slice = 3};
  ImagejRoi fraction = roi, far = roi, huge = roi;
  fraction.points[1] = {5.25f, -2.5f};
  far.points[0] = {70000, 3};
  huge.points.assign(70000, {3, 4});
  for (const ImagejRoi& want : {roi, fraction, far, huge}) {
    const std::string bytes = encode_roi(want);
    const ImagejRoi got = decode_roi(bytes_of(bytes), "x");
    CHECK(got.name == want.name);
    CHECK(got.points == want.points);
    CHECK(got.type == want.type);
    CHECK(got.slice == 3);
    CHECK(got.subpixel == (want.points == fraction.points || want.points == far.points));
  }
  CHECK(decode_roi(bytes_of(encode_roi(roi)), "x").bounds == std::array{1, 2, 6, 10});
  const std::vector<ImagejRoi> set{roi, roi, ImagejRoi{.name = "", .points = {{0, 0}}}};
  write_roi_set(folder / "RoiSet.zip", set);
  const auto back = read_roi_set(folder / "RoiSet.zip");
  REQUIRE(back.size() == 3);
  CHECK(back[0].name == "c\xC3\xA9ll \xF0\x9F\x94\xAC 1_2");
  CHECK(back[1].name == back[0].name + "-2");
  CHECK(back[2].name == "cell");
  std::string oval = encode_roi(roi);
  oval[6] = 2;
  CHECK(has(data_error_of([&] { decode_roi(bytes_of(oval), "x"); }), "type 2"));
}

TEST_SUITE_END();
