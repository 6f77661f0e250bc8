#include "train/on_nan.h"

#include <charconv>
#include <string_view>

#include "tensor/error.h"

namespace glia {

NanPolicy parse_nan_policy(const std::string& text) {
  if (text == "stop") return {};
  const size_t colon = text.find(':');
  const std::string_view word = std::string_view(text).substr(0, colon);
  NanPolicy policy{.kind = word == "skip" ? NanPolicy::Kind::skip : NanPolicy::Kind::rollback};
  const char *first = text.data() + (colon == std::string::npos ? text.size() : colon + 1), *last = text.data() + text.size();
  const auto [end, error] = std::from_chars(first, last, policy.limit);
  if ((word != "skip" && word != "rollback") || error != std::errc{} || end != last || policy.limit < 1)
    throw UsageError("want stop, skip:N or rollback:N with a number N of at least 1, such as skip:3");
  return policy;
}

}  // namespace glia
