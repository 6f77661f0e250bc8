// ZIP, NumPy, ImageJ and TensorBoard: round trips and hostile files; every kind of file cut off and with changed bytes.
#include <doctest/doctest.h>
#include <rapidjson/document.h>

#include <algorithm>
#include <cstring>
#include <fstream>
#include <random>
#include <string>

#include "data/csv.h"
#include "data/image_io.h"
#include "data/imagej_roi.h"
#include "data/npy.h"
#include "data/safetensors.h"
#include "data/tensorboard.h"
#include "tests/data_error_of.h"
#include "tests/paths.h"

using namespace glia;
using tests::data_error_of;
using tests::TemporaryFolder;
namespace fs = std::filesystem;

namespace {

std::span<const std::byte> bytes_of(std::string_view text) { return std::as_bytes(std::span(text.data(), text.size())); }

bool has(const std::string& text, std::string_view part) { return text.find(part) != std::string::npos; }

// Reads a file of any kind from memory, as far as reading goes.
void decode_any(const std::string& name, std::string_view text) {
  const auto bytes = bytes_of(text);
  const auto ends = [&](const char* ending) { return name.ends_with(ending); };
  if (ends(".png") || ends(".tif") || ends(".jpg")) {
    decode_image(bytes, name);
  } else if (ends(".safetensors")) {
    const SafetensorsFile file(bytes, name);
    for (const auto& e : file.entries()) file.load(e.name);
  } else if (ends(".npy")) {
    decode_npy(bytes, name);
  } else if (ends(".npz") || ends(".zip")) {
    const ZipFile zip(bytes, name);
    for (const auto& e : zip.entries()) zip.read(e);
  } else if (ends(".roi")) {
    decode_roi(bytes, name);
  } else if (has(name, "tfevents")) {
    decode_events(bytes, name);
  } else if (ends(".csv")) {
    for (CsvReader csv(text, name); csv.next();) {
    }
  } else {
    throw InternalError("{}: no reader", name);
  }
}

std::vector<fs::path> sample_files() {
  std::vector<fs::path> files;
  const fs::path folder = tests::source_folder() / "tests/fixtures";
  for (const char* sub : {"data", "jpeg"}) {
    for (const auto& entry : fs::directory_iterator(folder / sub)) {
      const std::string name = entry.path().filename().string();
      if (!name.starts_with("broken_") && !name.ends_with(".json") && name != "expected.safetensors")
        files.push_back(entry.path());
    }
  }
  std::sort(files.begin(), files.end());
  return files;
}

}  // namespace

TEST_SUITE_BEGIN("data");

TEST_CASE("files: cut off anywhere (R25)") {
  for (const fs::path& path : sample_files()) {
    const std::string name = path.filename().string(), whole = read_file(path);
    CAPTURE(name);
    CHECK_NOTHROW(decode_any(name, whole));
    if (name.ends_with(".csv")) continue;  // a table that ends after a line is a good one
    std::vector<size_t> record_ends{0};    // of an event file: 8 bytes of length, a checksum, the record, a checksum
    for (uint64_t length = 0; has(name, "tfevents") && record_ends.back() < whole.size();) {
      std::memcpy(&length, whole.data() + record_ends.back(), sizeof length);
      record_ends.push_back(record_ends.back() + length + 16);
    }
    const size_t step = std::max<size_t>(1, whole.size() / 500);
    for (size_t n = 0; n < whole.size(); n += step) {
      CAPTURE(n);
      if (has(name, "tfevents")) {  // whole records before the cut are a good file
        size_t records = 0;
        const std::string message =
            data_error_of([&] { records = decode_events(bytes_of(std::string_view(whole).substr(0, n)), name).size(); });
        const auto end = std::find(record_ends.begin(), record_ends.end(), n);
        CHECK(message.empty() == (n > 0 && end != record_ends.end()));
        CHECK((message.empty() ? records == static_cast<size_t>(end - record_ends.begin()) : has(message, "cut off") || n == 0));
        continue;
      }
      const std::string_view cut = std::string_view(whole).substr(0, n);
      if (name == "pages.tif" && n >= whole.size() - 16) {  // it ends with a text for people; all pixels are there
        const Tensor got = decode_image(bytes_of(cut), name).pixels, want = decode_image(bytes_of(whole), name).pixels;
        CHECK(std::memcmp(got.raw(), want.raw(), want.bytes()) == 0);
        continue;
      }
      CHECK_THROWS_AS(decode_any(name, cut), DataError);
    }
  }
}

TEST_CASE("files: changed bytes are an error or another content, never a crash") {
  std::mt19937 random(7);
  for (const fs::path& path : sample_files()) {
    const std::string name = path.filename().string(), whole = read_file(path);
    CAPTURE(name);
    int errors = 0;
    constexpr int tries = 150;
    for (int k = 0; k < tries; ++k) {
      std::string changed = whole;
      for (unsigned n = 1 + random() % 4; n > 0; --n) {
        const size_t limit = k % 2 ? changed.size() : std::min<size_t>(changed.size(), 300);  // headers more often
        changed[random() % limit] = static_cast<char>(k % 3 ? random() : (random() % 2 ? 0xff : 0));
      }
      try {
        decode_any(name, changed);
      } catch (const DataError& e) {
        ++errors;
        CHECK(std::string(e.what()).starts_with(name));
      }
    }
    CHECK(errors <= tries);
  }
}

TEST_CASE("zip: round trip, same bytes, names") {
  TemporaryFolder folder;
  const std::string repetitive(300'000, 'x'), tricky = "PK\x05\x06 inside";
  const auto write = [&](const fs::path& path) {
    ZipWriter zip(path);
    zip.add("folder/a.txt", "hello");
    zip.add("stored.bin", tricky, false);
    zip.add("empty", "");
    zip.add("empty stored", "", false);
    zip.add("long", repetitive);
    CHECK_THROWS_AS(zip.add("long", "again"), InternalError);
    CHECK_THROWS_AS(zip.add("../up", "x"), InternalError);
    zip.commit();
  };
  write(folder / "a.zip");
  write(folder / "b.zip");
  CHECK(read_file(folder / "a.zip") == read_file(folder / "b.zip"));
  const ZipFile zip(folder / "a.zip");
  const auto text = [&](const char* name) {
    const auto bytes = zip.read(zip.entry(name));
    return std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  };
  CHECK(zip.entries().size() == 5);
  CHECK(text("folder/a.txt") == "hello");
  CHECK(text("stored.bin") == tricky);
  CHECK(text("empty") == "");
  CHECK(text("empty stored") == "");
  CHECK(text("long") == repetitive);
  CHECK(zip.entry("long").compressed < 1000);
  CHECK(has(data_error_of([&] { zip.entry("none"); }), "no member \"none\""));
  {
    ZipWriter discarded(folder / "c.zip");
    discarded.add("a", "b");
  }
  CHECK(!fs::exists(folder / "c.zip"));
}

TEST_CASE("zip: hostile archives (R15)") {
  TemporaryFolder folder;
  {
    ZipWriter zip(folder / "a.zip");
    zip.add("aa", std::string(2000, 'a'));
    zip.add("bb", "stored bytes", false);
    zip.commit();
  }
  const std::string good = read_file(folder / "a.zip");
  const auto error = [](const std::string& bytes, const ZipLimits& limits = {}) {
    return data_error_of([&] {
      const ZipFile zip(bytes_of(bytes), "x", limits);
      for (const auto& e : zip.entries()) zip.read(e);
    });
  };
  CHECK(error(good) == "");
  const auto patched = [&](size_t at, std::string_view with) {
    std::string bytes = good;
    return bytes.replace(at, with.size(), with);
  };
  const auto renamed = [&](std::string_view from, std::string_view to) {
    std::string bytes = good;
    for (size_t at = bytes.find(from); at != bytes.npos; at = bytes.find(from, at + 1)) bytes.replace(at, from.size(), to);
    return bytes;
  };
  const size_t first = good.find("PK\x01\x02"), second = good.find("PK\x01\x02", first + 1), end = good.rfind("PK\x05\x06");
  CHECK(has(error(patched(good.find("stored"), "S")), "wrong checksum"));
  CHECK(has(error(patched(first + 16, "\1\2\3\4")), "disagrees"));
  CHECK(has(error(renamed("aa", "..")), "leaves the archive"));
  CHECK(has(error(renamed("bb", "/b")), "leaves the archive"));
  CHECK(has(error(renamed("bb", "b\\")), "leaves the archive"));
  CHECK(has(error(renamed("bb", "c:")), "leaves the archive"));
  CHECK(has(error(renamed("bb", "aa")), "two members"));
  CHECK(has(error(patched(first + 46, "zz")), "disagrees"));
  CHECK(has(error(patched(first + 8, "\1")), "encrypted"));
  CHECK(has(error(patched(first + 8, "\x20")), "patch"));
  CHECK(has(error(patched(first + 6, "\x40")), "version of the format"));
  CHECK(error(patched(first + 6, "\x3f")) == "");
  {  // the directory and the header read the bytes of a name differently
    const std::string plain = renamed("bb", "\xc3\xa9");
    std::string marked = plain;
    marked[second + 9] = static_cast<char>(marked[second + 9] ^ 8);
    CHECK(error(plain) == "");
    CHECK(has(error(marked), "disagrees"));
  }
  CHECK(has(error(patched(first + 10, "\x0c")), "method 12"));
  CHECK(has(error(patched(second + 42, std::string_view("\0\0\0\0", 4))), "overlap"));
  CHECK(has(error(patched(first + 42, "\xff\xff")), "belong to no member"));
  CHECK(has(error("prefix" + good), "not where it says"));
  CHECK(has(error(good + "suffix"), "no directory"));
  CHECK(has(error(patched(end + 4, "\1")), "several parts"));
  CHECK(has(error(patched(end + 10, "\3")), "missing"));
  CHECK(has(error(patched(end + 10, "\1")), "after the last entry"));
  // A byte more than the stream of the first member needs, with sizes and places that fit.
  std::string longer = good;
  for (const size_t at : {size_t{18}, first + 20, second + 42, end + 16}) ++longer[at];
  longer.insert(longer.begin() + static_cast<std::ptrdiff_t>(good.find("PK\x03\x04", 1)), '?');
  CHECK(has(error(longer), "does not decode to its 2000 bytes"));
  ZipLimits limits;
  limits.entries = 2;
  CHECK(error(good, limits) == "");
  limits.entries = 1;
  CHECK(has(error(good, limits), "at most 1 are allowed"));
  limits = {};
  limits.bytes = 2000;
  CHECK(error(good, limits) == "");
  limits.bytes = 1999;
  CHECK(has(error(good, limits), "1999 bytes allowed"));
  limits = {};
  limits.free_bytes = 1999;
  const ZipFile zip(bytes_of(good), "x");
  limits.ratio = 2000 / zip.entry("aa").compressed;
  CHECK(error(good, limits) == "");
  limits.ratio = 2000 / (zip.entry("aa").compressed + 2);
  CHECK(has(error(good, limits), "exhaust memory"));
  limits.free_bytes = 2000;
  CHECK(error(good, limits) == "");
}

TEST_CASE("zip: Zip64 end records") {
  TemporaryFolder folder;
  {
    ZipWriter zip(folder / "a.zip");
    zip.add("a", "content");
    zip.commit();
  }
  const std::string good = read_file(folder / "a.zip");
  const size_t end = good.size() - 22;
  const auto le = [](uint64_t v, size_t n) {
    std::string s;
    for (size_t i = 0; i < n; ++i) s += static_cast<char>(v >> 8 * i & 255);
    return s;
  };
  uint32_t size = 0, begin = 0;
  std::memcpy(&size, good.data() + end + 12, 4);
  std::memcpy(&begin, good.data() + end + 16, 4);
  const std::string end64 =
      "PK\x06\x06" + le(44, 8) + le(45, 2) + le(45, 2) + le(0, 8) + le(1, 8) + le(1, 8) + le(size, 8) + le(begin, 8);
  const std::string locator = "PK\x06\x07" + le(0, 4) + le(end, 8) + le(1, 4);
  const std::string tail =
      "PK\x05\x06" + le(0, 4) + le(0xffff, 2) + le(0xffff, 2) + le(0xffffffff, 4) + le(0xffffffff, 4) + le(0, 2);
  const std::string zip64 = good.substr(0, end) + end64 + locator + tail;
  const ZipFile zip(bytes_of(zip64), "x");
  REQUIRE(zip.entries().size() == 1);
  CHECK(zip.read(zip.entries()[0]).size() == 7);
  for (const size_t at : {end + 4, end + 40, end + 48, end + 56 + 8}) {
    std::string bad = zip64;
    bad[at] = static_cast<char>(bad[at] ^ 0x40);
    CHECK_THROWS_AS(ZipFile(bytes_of(bad), "x"), DataError);
  }
  const std::string brief = good.substr(0, end) + end64.substr(0, 48) + locator + tail;  // a record without its last number
  CHECK(has(data_error_of([&] { ZipFile(bytes_of(brief), "x"); }), "Zip64 end record is not where it says"));
}

TEST_CASE("npy: round trips and headers") {
  TemporaryFolder folder;
  std::map<std::string, Tensor> tensors{{"f32", Tensor::from<float>({2, 2}, std::vector<float>{1, -0.f, 1e-40f, 3})},
                                        {"f64", Tensor::scalar(2.5, DType::float64)},
                                        {"f16", Tensor::full({3}, 1.5).cast(DType::float16)},
                                        {"i32", Tensor::full({1, 2, 3, 4, 5, 6}, -7, DType::int32)},
                                        {"i64", Tensor::full({2}, -70000000000.0, DType::int64)},
                                        {"u8", Tensor::full({0, 3}, 1, DType::uint8)},
                                        {"bool", Tensor::full({2}, 1, DType::boolean)}};
  for (const auto& [name, want] : tensors) {
    CAPTURE(name);
    write_npy(folder / "a.npy", want);
    CHECK(read_file(folder / "a.npy").find('\n') % 64 == 63);
    const Tensor got = read_npy(folder / "a.npy");
    CHECK(got.shape() == want.shape());
    CHECK(got.dtype() == want.dtype());
    CHECK((want.bytes() == 0 || std::memcmp(got.raw(), want.raw(), want.bytes()) == 0));
  }
  for (const bool deflate : {false, true}) {
    write_npz(folder / "a.npz", tensors, deflate);
    CHECK(read_npz(folder / "a.npz").size() == tensors.size());
  }
  CHECK_THROWS_AS(encode_npy(Tensor::full({1}, 1).cast(DType::bfloat16)), InternalError);

  const auto error = [](std::string header, size_t data, char version = 1) {
    std::string bytes("\x93NUMPY", 6);
    bytes += {version, '\0', static_cast<char>(header.size()), '\0'};
    if (version > 1) bytes += std::string(2, '\0');
    bytes += header + std::string(data, '\1');
    return data_error_of([&] { decode_npy(bytes_of(bytes), "x"); });
  };
  const std::string type = "{'descr': '<u2', 'fortran_order': False, ";
  CHECK(error(type + "'shape': (3,), }", 6) == "");
  CHECK(error("{\"shape\":(3L,),\"fortran_order\":True,\"descr\":\">u2\"}\n", 6, 3) == "");
  CHECK(error(type + "'shape': (2, 3, 1), }", 12, 2) == "");
  CHECK(has(error(type + "'shape': (3,), }", 7), "7 bytes of data"));
  CHECK(has(error(type + "'shape': (-3,), }", 6), "no number"));
  CHECK(has(error(type + "'shape': (3 3), }", 6), "missing"));
  CHECK(has(error(type + "'shape': (3), }", 6), "wants a comma"));  // no tuple in Python
  CHECK(has(error(type + "'shape': (03,), }", 6), "no number"));
  CHECK(has(error(type + "'shape': (1, 03), }", 6), "no number"));
  CHECK(error(type + "'shape': (0,), }", 0) == "");
  CHECK(has(error(type + "'shape': (99999999999999999999,), }", 6), "no number"));
  CHECK(has(error(type + "'shape': (9223372036854775807,9223372036854775807,9223372036854775807), }", 6), "6 bytes of data"));
  // 2 (2^62 + 1) (2^62 + 3) is 6 modulo 2^64.
  CHECK(has(error(type + "'shape': (4611686018427387905,4611686018427387907), }", 6), "6 bytes of data"));
  CHECK(has(error(type + "'shape': (9223372036854775807,0), }", 0), "overflows"));
  CHECK(has(error(type + "'shape': (1,1,1,1,1,1,1), }", 2), "at most 6"));
  CHECK(has(error(type + "'shape': (3,), 'x': 1}", 6), "unexpected key"));
  CHECK(has(error(type + "'shape': (3,), 'shape': (3,)}", 6), "unexpected key"));
  CHECK(has(error(type + "}", 6), "is missing"));
  CHECK(has(error(type + "'shape': (3,), } x", 6), "after the dictionary"));
  CHECK(has(error("{'descr': [('a','<u2')], 'fortran_order': False, 'shape': (3,)}", 6), "structures"));
  CHECK(has(error("{'descr': '<c8', 'fortran_order': False, 'shape': (3,)}", 24), "<c8"));
  CHECK(has(error("{'descr': '<u2', 'fortran_order': 0, 'shape': (3,)}", 6), "neither True"));
  CHECK(error("{'descr': '|b1', 'fortran_order': False, 'shape': (2,)}", 2) == "");
  CHECK(has(error(type + "'shape': (3,), }", 6, 4), "version 4"));
  CHECK(error("{'descr': '>u8', 'fortran_order': False, 'shape': (1,)}", 8) == "");
  std::string large("\x93NUMPY\1\0", 8);
  const std::string header = "{'descr': '<u8', 'fortran_order': False, 'shape': (1,)}";
  large += {static_cast<char>(header.size()), '\0'};
  large += header + std::string(8, '\xff');
  CHECK(has(data_error_of([&] { decode_npy(bytes_of(large), "x"); }), "U64 value"));
}

TEST_CASE("npy: three dimensions in Fortran's order") {
  // numpy: np.asfortranarray(np.arange(24, dtype="u1").reshape(2, 3, 4)), bytes by x.tobytes("F")
  std::string bytes("\x93NUMPY\1\0", 8);
  const std::string header = "{'descr': '|u1', 'fortran_order': True, 'shape': (2, 3, 4)}";
  bytes += {static_cast<char>(header.size()), '\0'};
  bytes += header;
  for (int k = 0; k < 4; ++k)
    for (int j = 0; j < 3; ++j)
      for (int i = 0; i < 2; ++i) bytes += static_cast<char>(i * 12 + j * 4 + k);
  const Tensor t = decode_npy(bytes_of(bytes), "x");
  CHECK(t.shape() == Shape{2, 3, 4});
  for (int i = 0; i < 24; ++i) CHECK(t.data<uint8_t>()[i] == i);
}

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

TEST_CASE("tensorboard: a run's file, and a disk that fills") {
  TemporaryFolder folder;
  fs::path path;
  static ssize_t room = 0;
  static FileCalls real;
  {
    EventWriter events(folder.path());
    path = events.path();
    CHECK(path.filename().string().starts_with("events.out.tfevents."));
    const std::vector<std::pair<std::string, float>> values{{"train/loss", 0.5f}, {"lr", 1e-3f}};
    events.scalars(1, values);
    CHECK(read_events(path).size() == 2);  // on disk at once
    real = file_calls();
    room = 10;  // half a record fits
    file_calls().write = [](int fd, const void* data, size_t n) -> ssize_t {
      if (room == 0) {
        errno = ENOSPC;
        return -1;
      }
      const ssize_t written = real.write(fd, data, std::min(n, static_cast<size_t>(room)));
      room -= written;
      return written;
    };
    CHECK_THROWS_AS(events.scalars(2, values), IoError);
    file_calls() = real;
    events.scalars(3, values);
  }
  const auto events = read_events(path);
  REQUIRE(events.size() == 3);
  CHECK(events[0].file_version == "brain.Event:2");
  CHECK(events[1].step == 1);
  CHECK(events[2].step == 3);
  CHECK(events[2].scalars[1] == std::pair<std::string, float>{"lr", 1e-3f});
  CHECK(events[1].wall_time > 1.7e9);
  CHECK_THROWS_AS(EventWriter(folder / "none"), IoError);
  for (const int64_t step : {int64_t{-5}, int64_t{127}, int64_t{128}, int64_t{16'384}, int64_t{1} << 40}) {
    Event event;
    event.step = step;
    std::string bytes = encode_event(event);
    CHECK(decode_events(bytes_of(bytes), "x")[0].step == step);
    for (char& c : bytes) {
      c ^= 4;
      CHECK_THROWS_AS(decode_events(bytes_of(bytes), "x"), DataError);
      c ^= 4;
    }
  }
}

TEST_SUITE_END();
