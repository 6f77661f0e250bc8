#include "data/limits.h"

#include <fmt/format.h>

#include <charconv>
#include <string_view>

#include "tensor/error.h"

namespace glia {
namespace {

constexpr std::pair<std::string_view, int64_t FileLimits::*> names[] = {{"pixels", &FileLimits::pixels},
                                                                        {"decoded_bytes", &FileLimits::decoded_bytes},
                                                                        {"pages", &FileLimits::pages},
                                                                        {"image_ratio", &FileLimits::image_ratio},
                                                                        {"png_chunk", &FileLimits::png_chunk},
                                                                        {"json_depth", &FileLimits::json_depth},
                                                                        {"string_bytes", &FileLimits::string_bytes},
                                                                        {"instances", &FileLimits::instances},
                                                                        {"safetensors_header", &FileLimits::safetensors_header},
                                                                        {"zip_ratio", &FileLimits::zip_ratio},
                                                                        {"tensor_growth", &FileLimits::tensor_growth}};

// A whole number, or one with K, M or G behind it; 0 where it is neither.
int64_t number_of(std::string_view text) {
  int64_t value = 0, factor = 1;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  const std::string_view unit = text.substr(static_cast<size_t>(end - text.data()));
  if (!unit.empty()) factor = unit == "K" ? 1'000 : unit == "M" ? 1'000'000 : unit == "G" ? 1'000'000'000 : 0;
  const bool good = error == std::errc{} && value > 0 && !__builtin_mul_overflow(value, factor, &value);
  return good && value <= int64_t{1} << 50 ? value : 0;
}

}  // namespace

FileLimits& file_limits() {
  static FileLimits limits;
  return limits;
}

void set_file_limit(const std::string& assignment) {
  const size_t equals = std::min(assignment.find('='), assignment.size());
  const std::string_view name = std::string_view(assignment).substr(0, equals);
  const int64_t value = equals < assignment.size() ? number_of(std::string_view(assignment).substr(equals + 1)) : 0;
  std::string known;
  for (const auto& [each, member] : names) {
    if (each == name && value > 0) {
      file_limits().*member = value;
      return;
    }
    known += fmt::format("{}{} ({})", known.empty() ? "" : ", ", each, FileLimits{}.*member);
  }
  throw UsageError("--file-limit '{}': want NAME=NUMBER, such as pixels=400M; names, and what holds without: {}", assignment,
                   known);
}

std::string raise_hint(const char* name) {
  return fmt::format("; if the file is meant so, --file-limit {}=NUMBER raises it", name);
}

}  // namespace glia
