// The event files of TensorBoard.
#include <doctest/doctest.h>

#include "data/atomic_file.h"
#include "data/tensorboard.h"
#include "tensor/error.h"
#include "tests/bytes_of.h"
#include "tests/paths.h"

using namespace glia;
using namespace glia::tests;
namespace fs = std::filesystem;

TEST_SUITE_BEGIN("data");

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
