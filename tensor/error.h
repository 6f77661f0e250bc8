#pragma once
// Errors of Glia: one exception type per exit code of the program. A message says the op or file, what was got, what was
// wanted, and, where it can be guessed, the likely cause.
#include <fmt/core.h>

#include <stdexcept>
#include <string>
#include <utility>

namespace glia {

enum class ExitCode : int {
  ok = 0,
  internal = 1,
  usage = 2,          // command line or configuration
  data = 3,           // a data set, image, annotation or checkpoint that cannot be used
  io = 4,             // reading or writing files
  diverged = 5,       // non-finite loss or gradient
  out_of_memory = 6,
  device = 7,         // no such device, or not built in
  rank_failed = 8,
  interrupted = 130,
};

class Error : public std::runtime_error {
 public:
  explicit Error(const std::string& message, ExitCode code = ExitCode::internal)
      : std::runtime_error(message), code_(code) {}
  ExitCode code() const { return code_; }

 private:
  ExitCode code_;
};

template <ExitCode Code>
class ErrorOf : public Error {
 public:
  explicit ErrorOf(const std::string& message) : Error(message, Code) {}
  template <class First, class... Rest>
  explicit ErrorOf(fmt::format_string<First, Rest...> format, First&& first, Rest&&... rest)
      : Error(fmt::format(format, std::forward<First>(first), std::forward<Rest>(rest)...), Code) {}
};

using InternalError = ErrorOf<ExitCode::internal>;
using UsageError = ErrorOf<ExitCode::usage>;
using DataError = ErrorOf<ExitCode::data>;
using IoError = ErrorOf<ExitCode::io>;
using DivergedError = ErrorOf<ExitCode::diverged>;
using OutOfMemoryError = ErrorOf<ExitCode::out_of_memory>;
using DeviceError = ErrorOf<ExitCode::device>;

}  // namespace glia

// GLIA_CHECK(x.rank() == 4, "conv2d: x is {}, want (N, H, W, C)", x.shape());
#define GLIA_CHECK(condition, ...)                                          \
  do {                                                                      \
    if (!(condition)) [[unlikely]]                                          \
      throw ::glia::InternalError(::fmt::format(__VA_ARGS__));              \
  } while (0)
