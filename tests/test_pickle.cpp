// The pickle machine: protocols, opcodes and texts that are read. (Those that do harm: test_weights_hostile.cpp.)
#include <doctest/doctest.h>

#include <fstream>
#include <string>

#include "data/atomic_file.h"
#include "data/latin1.h"
#include "data/pickle.h"
#include "data/weights.h"
#include "tests/bytes_of.h"
#include "tests/paths.h"
#include "tests/weights_bytes.h"

using namespace glia;
using namespace glia::tests;
namespace fs = std::filesystem;

namespace {

std::string read_error(std::string_view text) {
  try {
    const Pickle pickle(bytes_of(text), "x");
  } catch (const DataError& e) {
    return e.what();
  }
  return "";
}

}  // namespace

TEST_SUITE_BEGIN("weights");

TEST_CASE("Latin-1 as UTF-8: by words and by bytes, in pieces of any size, to the bit") {
  std::string bytes, text;
  for (unsigned i = 0; i < 20'000; ++i) {
    const auto c = static_cast<char>(i < 512 ? i : i * 2654435761u >> 21);  // all values in order, then a mixture
    bytes += c;
    text += utf8_of_latin1({&c, 1});
  }
  CHECK(latin1_size(text) == bytes.size());
  for (const bool words : {true, false}) {
    for (const size_t piece : {size_t{1}, size_t{7}, size_t{8}, size_t{4097}, text.size()}) {
      CAPTURE(piece);
      std::string out(bytes.size(), '?');
      Latin1Decoder decoder(std::as_writable_bytes(std::span(out)), words);
      for (size_t at = 0; at < text.size(); at += piece) REQUIRE(decoder.feed(std::string_view(text).substr(at, piece)));
      CHECK(decoder.done());
      CHECK(out == bytes);
    }
    const auto reads = [words](std::string_view wrong, size_t size) {
      std::string out(size + 1, '\x55');
      Latin1Decoder decoder(std::as_writable_bytes(std::span(out.data(), size)), words);
      const bool good = decoder.feed(wrong) && decoder.done();
      CHECK(out.back() == '\x55');
      return good;
    };
    CHECK(reads("", 0));
    const std::string fill(24, 'x');  // so that what is wrong stands in a word, at each of its places
    for (const char* wrong :
         {"\x80", "\xc3", "\xc3\xc3\xa9", "\xc3\xa9\xa9", "\xc4\x80", "\xc0\x80", "\xc1\xbf", "\xe2\x82\xac", "\xff"})
      for (size_t at = 0; at <= 16; ++at) {
        std::string t = fill;
        t.insert(at, wrong);
        CAPTURE(wrong);
        CAPTURE(at);
        CHECK_FALSE(reads(t, latin1_size(t)));
        CHECK_FALSE(reads(t, latin1_size(t) + 1));
      }
    CHECK(reads(fill + "\xc3\xa9" + fill, 49));
    CHECK_FALSE(reads(fill + "\xc3\xa9" + fill, 48));  // more than fits
    CHECK_FALSE(reads(fill + "\xc3\xa9" + fill, 50));  // less
    CHECK_FALSE(reads(fill + "\xc3", 24));
  }
}

TEST_CASE("pickle: a memo is no larger than the file") {
  const auto asks = [](uint64_t number) { return "\x80\2Nr" + little(number, 4) + "."; };  // 9 bytes
  CHECK(read_error(asks(8)).empty());
  CHECK(read_error(asks(9)).find("memo number 9, at most 9 are read") != std::string::npos);
  CHECK(read_error(asks(499'999)).find("at most 9") != std::string::npos);
  CHECK(read_error("\x80\2Nr" + little(2, 4) + "0h\1.").find("memo 1 is read before it is written") != std::string::npos);
}

TEST_CASE("pickle: values of all protocols") {
  using Kind = PickleValue::Kind;
  const auto root = [](std::string_view s) { return Pickle(bytes_of(s), "x").root(); };
  CHECK(root("I01\n.").kind == Kind::boolean);
  CHECK(root("I-12\n.").integer == -12);
  CHECK(root("L123456789012L\n.").integer == 123456789012);
  CHECK(root("F-1.5e3\n.").real == -1500);
  CHECK(root("\x80\2G\x3f\xf8\0\0\0\0\0\0."s).real == 1.5);
  CHECK(root("\x80\2J\xfe\xff\xff\xff.").integer == -2);
  CHECK(root("\x80\2M\x01\x02.").integer == 513);
  CHECK(root("\x80\2\x8a\0."s).integer == 0);
  CHECK(root("\x80\2\x8a\1\xff.").integer == -1);
  CHECK(root("\x80\2\x8a\2\xff\0."s).integer == 255);
  CHECK(root("\x80\2\x8a\x09" + std::string(9, '\1') + ".").kind == Kind::big);
  const auto text_of = [](std::string_view s) {
    const Pickle p(bytes_of(s), "x");
    return p.text(p.root(), 1000);
  };
  CHECK(text_of("S'it\\'s \\x41\\n'\np0\n.") == "it's A\n");
  CHECK(text_of("S\"\xe9\"\n.") == "é");
  CHECK(text_of("V\\u20ac \xe9 \\U0001f600 \\n\n.") == "€ é 😀 \\n");
  CHECK(text_of("\x80\4\x8c\2\xc3\xa9\x94.") == "é");
  CHECK(text_of("\x80\4\x8d\2\0\0\0\0\0\0\0\xc3\xa9."s) == "é");
  CHECK(text_of("\x80\2U\1\xe9.") == "é");
  CHECK(read_error("S'open\n.") != "");
  CHECK(read_error("V\\u12\n.") != "");
}

TEST_CASE("pickle: containers, memo and marks") {
  const auto count = [](std::string_view s) {
    const Pickle p(bytes_of(s), "x");
    return p.node(p.root()).items.size();
  };
  CHECK(count("(I1\nI2\nlp0\n0g0\n.") == 2);
  CHECK(count("(I1\nI2\nd.") == 2);
  CHECK(count("(dI1\nI2\ns.") == 2);
  CHECK(count("\x80\4](K\1K\2K\3e.") == 3);
  CHECK(count("\x80\4\x8f(K\1K\2\x90.") == 2);
  CHECK(count("\x80\4(K\1K\2\x91.") == 2);
  CHECK(count("\x80\4K\1\x94"
              "2"
              "0\x85.") == 1);
  CHECK(count("\x80\4(K\1(K\2"
              "1t.") == 1);
  CHECK(count("\x80\4(K\1("
              "0t.") == 1);
  CHECK(count("\x80\4K\1\x94K\2\x94\x86\x94"
              "0h\1h\0\x86."s) == 2);
  CHECK(count("ccollections\nOrderedDict\n((lI1\nI2\n\x86"
              "atR.") == 2);
}

TEST_CASE("pickle: plain dicts of numbers and arrays, all memory orders") {
  const TemporaryFolder folder;
  // {"f": np.array([[1, 2, 3], [4, 5, 6]], ">i2", order="F")}, big endian: type "i2" with the state (3, ">", ...)
  const std::string data = "\0\1\0\4\0\2\0\5\0\3\0\6"s;
  std::string pickle = dict_of(numpy("K\2K\3\x86", "i2", "C\x0c" + data, "\x88"));
  pickle.replace(pickle.find(text("<")), 6, text(">"));
  std::ofstream(folder / "a.pkl", std::ios::binary) << pickle;
  const Weights weights = read_weights(folder / "a.pkl");
  REQUIRE(weights.tensors.size() == 1);
  CHECK(weights.tensors[0].dtype == "I16");
  const Tensor t = weights.load(weights.tensors[0]);
  for (int i = 0; i < 6; ++i) CHECK(t.data<int32_t>()[i] == i + 1);
  // protocol 5: numpy._core.numeric._frombuffer(bytearray, dtype, (2,), "C"), and numpy's scalar
  const std::string type = "cnumpy\ndtype\n" + text("f8") + "\x89\x88\x87R";
  const std::string value = "\0\0\0\0\0\0\xf8\x3f"s;
  std::ofstream(folder / "b.pkl", std::ios::binary)
      << "\x80\5}(" + text("a") + "cnumpy._core.numeric\n_frombuffer\n(\x96" + little(16, 8) + value + value + type + "K\2\x85" +
             text("C") + "tR" + text("s") + "cnumpy.core.multiarray\nscalar\n" + type + "C\x08" + value + "\x86Ru.";
  const Weights five = read_weights(folder / "b.pkl");
  REQUIRE(five.tensors.size() == 1);
  CHECK(five.load(five.tensors[0]).data<double>()[1] == 1.5);
  CHECK(five.scalars.at("s") == Scalar(1.5));
}

TEST_CASE("pickle: every opcode alone, and every prefix and changed byte of the samples, is an error or another content") {
  for (int op = 0; op < 256; ++op) {
    for (const char* rest : {"", ".", "\1.", "\1\1\1\1\1\1\1\1\1\n\n."}) read_error("\x80\4"s + static_cast<char>(op) + rest);
  }
  const TemporaryFolder folder;
  for (const auto& entry : fs::directory_iterator(tests::fixtures_folder() / "checkpoints")) {
    const std::string whole = read_file(entry.path());
    const auto attempt = [&](const std::string& bytes) {
      std::ofstream(folder / "w", std::ios::binary) << bytes;
      try {
        const Weights weights = read_weights(folder / "w");
        for (const StoredTensor& t : weights.tensors) t.bytes(weights.source);
        return true;
      } catch (const DataError& e) {
        CHECK(std::string(e.what()).find((folder / "w").string()) != std::string::npos);
        return false;
      }
    };
    for (size_t n = 0; n < whole.size(); n += 1 + whole.size() / 60) CHECK_FALSE(attempt(whole.substr(0, n)));
    for (size_t n = 0; n < whole.size(); n += 1 + whole.size() / 120) {
      std::string changed = whole;
      changed[n] = static_cast<char>(changed[n] ^ 0x55);
      attempt(changed);
    }
  }
}

TEST_SUITE_END();
