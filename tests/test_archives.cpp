// ZIP archives and NumPy arrays: round trips and hostile files.
#include <doctest/doctest.h>

#include <algorithm>
#include <cstring>

#include "data/npy.h"
#include "tests/bytes_of.h"
#include "tests/data_error_of.h"
#include "tests/paths.h"

using namespace glia;
using namespace glia::tests;
namespace fs = std::filesystem;

TEST_SUITE_BEGIN("data");

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

TEST_SUITE_END();
