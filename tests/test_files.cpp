// Files as wholes and safetensors: round trips, failing system calls, headers out of the grammar.
#include <doctest/doctest.h>

#include <cerrno>
#include <filesystem>
#include <fstream>
#include <string>

#include "data/atomic_file.h"
#include "data/limits.h"
#include "data/safetensors.h"
#include "tests/file_faults.h"
#include "tests/paths.h"

using namespace glia;
namespace fs = std::filesystem;

namespace {

using tests::FaultyFiles;
using tests::TemporaryFolder;

int files_in(const TemporaryFolder& folder) {
  return static_cast<int>(std::distance(fs::directory_iterator(folder.path()), fs::directory_iterator()));
}

template <class E, class F>
std::string message_of(F&& f) {
  try {
    f();
  } catch (const E& e) {
    return e.what();
  }
  return "";
}

}  // namespace

TEST_SUITE("data") {
  TEST_CASE("atomic file: replaces whole files, leaves nothing behind") {
    TemporaryFolder folder;
    const fs::path path = folder / "a.txt";
    write_file(path, "old");
    {
      AtomicFile file(path);
      file.write("half of the new");
    }
    CHECK(read_file(path) == "old");
    CHECK(files_in(folder) == 1);
    std::string big(1'000'003, 'x');
    for (size_t i = 0; i < big.size(); ++i) big[i] = static_cast<char>('a' + i % 23);
    AtomicFile file(path);
    file.write(std::string_view(big).substr(0, 5));
    file.write(std::string_view(big).substr(5, 300'000));
    file.write(std::string_view(big).substr(300'005));
    CHECK(read_file(path) == "old");
    file.commit();
    CHECK(file.size() == big.size());
    CHECK(read_file(path) == big);
    CHECK(files_in(folder) == 1);
    fs::create_symlink("a.txt", folder / "link");
    write_file(folder / "link", "through the link");
    CHECK(fs::is_symlink(folder / "link"));
    CHECK(read_file(path) == "through the link");
  }

  TEST_CASE("atomic file: every failing call leaves the old content (R22)") {
    for (const int error : {EIO, ENOSPC, EINTR}) {
      for (const bool always : {false, true}) {
        int failures = 0;
        for (int n = 1; n < 12; ++n) {
          TemporaryFolder folder;
          const fs::path path = folder / "a.txt";
          write_file(path, "old");
          std::string message;
          {
            const FaultyFiles faulty({.at = n, .error = error, .for_ever = always});
            message = message_of<IoError>([&] { write_file(path, "new content"); });
          }
          const std::string content = read_file(path);
          CHECK((content == "old" || content == "new content"));
          if (message.empty()) {
            CHECK(content == "new content");
            CHECK(files_in(folder) == 1);
          } else {
            ++failures;
            CHECK(message.find(folder.path().string()) == 0);
            CHECK(message.find(std::strerror(error)) != std::string::npos);
          }
        }
        // open, write, fsync, close, rename, open folder, fsync folder: seven calls that matter (EINTR is retried, but not for ever)
        CHECK(failures == (error == EINTR && !always ? 0 : 7));
      }
    }
    TemporaryFolder folder;
    const FaultyFiles faulty({.at = 1, .error = 0, .for_ever = true});
    write_file(folder / "b", std::string(1000, 'b'));
    CHECK(read_file(folder / "b") == std::string(1000, 'b'));
  }

  TEST_CASE("atomic file: causes in words (R24)") {
    TemporaryFolder folder;
    CHECK(message_of<IoError>([&] { write_file(folder / "no/such/folder", ""); }).find("No such file or directory") !=
          std::string::npos);
    CHECK(message_of<IoError>([&] { write_file(folder.path(), ""); }).find("is a folder") != std::string::npos);
    CHECK(message_of<IoError>([&] { write_file("/dev/full", "x"); }).find("the disk is full") != std::string::npos);
    write_file("/dev/null", "x");
    CHECK(fs::is_character_file("/dev/null"));
    CHECK(message_of<IoError>([&] { read_file(folder.path()); }).find("is a folder") != std::string::npos);
    CHECK(message_of<IoError>([&] { read_file(folder / "none"); }).find("No such file") != std::string::npos);
    CHECK_THROWS_AS(MappedFile("/dev/zero"), IoError);
    write_file(folder / "ten", "0123456789");
    CHECK(read_file(folder / "ten", 10) == "0123456789");
    CHECK_THROWS_AS(read_file(folder / "ten", 9), DataError);
  }

  TEST_CASE("atomic file: temporaries of dead processes go, others stay") {
    TemporaryFolder folder;
    for (const char* name : {".a.tmp-999999999", ".a.tmp-1", ".a.tmp-", ".a.tmp-12x", "a.tmp-999999999"})
      std::ofstream(folder / name) << "x";
    CHECK(remove_stale_temporaries(folder.path()) == 1);
    CHECK(files_in(folder) == 4);
    CHECK(!fs::exists(folder / ".a.tmp-999999999"));
    CHECK(remove_stale_temporaries(folder / "none") == 0);
  }

  TEST_CASE("safetensors: round trip of every type, same bytes, checksums") {
    TemporaryFolder folder;
    std::map<std::string, Tensor> tensors{
        {"f32", Tensor::from<float>({2, 3}, std::vector<float>{1, -2, 3.5f, 1e-40f, 1e38f, 0})},
        {"f64", Tensor::from<double>({1}, std::vector<double>{3.141592653589793})},
        {"i32", Tensor::from<int32_t>({2}, std::vector<int32_t>{-5, 7})},
        {"i64", Tensor::from<int64_t>({}, std::vector<int64_t>{-1})},
        {"u8/with \"quotes\"\n", Tensor::from<uint8_t>({3}, std::vector<uint8_t>{0, 128, 255})},
        {"bool", Tensor::full({3}, 1, DType::boolean)},
        {"half", Tensor::full({5}, 1.5, DType::float32).cast(DType::float16)},
        {"brain", Tensor::full({1}, -2.5, DType::float32).cast(DType::bfloat16)},
        {"empty", Tensor({0, 4})},
        {"empty too", Tensor({4, 0}, DType::uint8)},
    };
    const fs::path path = folder / "a.safetensors";
    const Metadata metadata{{"format", "x"}, {"text", "two\nlines \"quoted\" \xC3\xA9"}};
    write_safetensors(path, tensors, metadata, {.checksums = true});
    const std::string once = read_file(path);
    write_safetensors(path, tensors, metadata, {.checksums = true});
    CHECK(read_file(path) == once);
    const SafetensorsFile file(path);
    CHECK(file.verify());
    CHECK(file.entries().size() == tensors.size());
    CHECK(file.metadata().at("text") == metadata.at("text"));
    for (const auto& [name, want] : tensors) {
      CAPTURE(name);
      const Tensor got = file.load(name);
      CHECK(got.shape() == want.shape());
      CHECK(got.dtype() == want.dtype());
      CHECK((want.bytes() == 0 || std::memcmp(got.raw(), want.raw(), want.bytes()) == 0));
      CHECK((8 + file.raw(file.entry(name)).data() - file.raw(file.entries()[0]).data()) % int64_t(size_of(want.dtype())) == 0);
    }
    CHECK(message_of<DataError>([&] { file.load("f33"); }).find("no tensor \"f33\"") != std::string::npos);
    write_safetensors(path, tensors, metadata);
    CHECK(!SafetensorsFile(path).verify());
  }

  TEST_CASE("safetensors: every changed byte is noticed") {
    TemporaryFolder folder;
    write_safetensors(folder / "a", {{"w", Tensor::full({3}, 2)}, {"b", Tensor::full({1}, 1, DType::int32)}}, {{"step", "12"}},
                      {.checksums = true});
    std::string bytes = read_file(folder / "a");
    const auto verified = [&] {
      try {
        return SafetensorsFile(std::as_bytes(std::span(bytes)), "changed").verify();
      } catch (const DataError&) {
        return false;
      }
    };
    CHECK(verified());
    const size_t padding = bytes.find_last_of('}', bytes.size() - 17);
    for (size_t i = 0; i < bytes.size(); ++i) {
      if (i > padding && bytes[i] == ' ') continue;  // a space after the header may become another white space
      for (const int flip : {1, 0x80, 0x20}) {
        bytes[i] = static_cast<char>(bytes[i] ^ flip);
        CHECK_MESSAGE(!verified(), "byte " << i << " flip " << flip);
        bytes[i] = static_cast<char>(bytes[i] ^ flip);
      }
    }
    for (size_t n = 0; n < bytes.size(); ++n)
      CHECK_THROWS_AS(SafetensorsFile(std::as_bytes(std::span(bytes).first(n)), "cut"), DataError);
  }

  TEST_CASE("safetensors: headers out of the grammar") {
    const auto error_of = [](std::string header, size_t data) {
      const uint64_t n = header.size();
      std::string bytes(reinterpret_cast<const char*>(&n), 8);
      bytes += header + std::string(data, '\0');
      return message_of<DataError>([&] { SafetensorsFile(std::as_bytes(std::span(bytes)), "x"); });
    };
    const std::string a = R"("a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]})";
    CHECK(error_of("{" + a + "}", 4) == "");
    CHECK(error_of("{}", 0) == "");
    CHECK(error_of("{" + a + "}", 5).find("1 bytes after the last tensor") != std::string::npos);
    CHECK(error_of("{" + a + "," + a + "}", 8).find("\"a\" twice") != std::string::npos);
    CHECK(error_of(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}})", 8).find("hole") != std::string::npos);
    CHECK(error_of(R"({"a":{"dtype":"F32","shape":[1.0],"data_offsets":[0,4]}})", 4).find("does not belong") !=
          std::string::npos);
    CHECK(error_of(R"({"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}})", 4).find("negative") != std::string::npos);
    CHECK(error_of(R"({"a":{"dtype":"F32","shape":[[1]],"data_offsets":[0,4]}})", 4).find("array") != std::string::npos);
    CHECK(error_of(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4,4]}})", 4).find("number") != std::string::npos);
    CHECK(error_of(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0]}})", 4).find("fewer than two") != std::string::npos);
    CHECK(error_of(R"({"a":{"dtype":"F32","shape":[1]}})", 4).find("without") != std::string::npos);
    CHECK(error_of(R"({"a":{"dtype":"F32","dtype":"F32","shape":[1],"data_offsets":[0,4]}})", 4).find("twice") !=
          std::string::npos);
    CHECK(error_of(R"({"a":{"extra":1,"dtype":"F32","shape":[1],"data_offsets":[0,4]}})", 4).find("unknown field") !=
          std::string::npos);
    CHECK(error_of(R"({"__metadata__":{"a":1}})", 0).find("number") != std::string::npos);
    CHECK(error_of(R"({"__metadata__":{"a":"1","a":"2"}})", 0).find("twice") != std::string::npos);
    CHECK(error_of(std::string("{}\0{}", 5), 0).find("zero byte") != std::string::npos);
    CHECK(error_of("{\"\xFF\":1}", 0).find("header, byte") != std::string::npos);
    CHECK(error_of(" {}", 0).find("does not begin") != std::string::npos);
    CHECK(error_of(R"({"a":{"dtype":"F32","shape":[9223372036854775807,0],"data_offsets":[0,0]}})", 0).find("overflow") !=
          std::string::npos);
    CHECK(error_of(R"({"a":{"dtype":"F32","shape":[9223372036854775807,4],"data_offsets":[0,0]}})", 0).find("overflow") !=
          std::string::npos);
    // the cap of the header: one byte more is refused by the cap, at the cap by the end of the file
    const auto most = static_cast<uint64_t>(file_limits().safetensors_header);
    for (const uint64_t n : {most, most + 1}) {
      std::string bytes(reinterpret_cast<const char*>(&n), 8);
      const std::string text = message_of<DataError>([&] { SafetensorsFile(std::as_bytes(std::span(bytes)), "x"); });
      CHECK((text.find("at most") != std::string::npos) == (n > most));
    }
  }
}
