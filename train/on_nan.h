#pragma once
#include <cstdint>
#include <string>

namespace glia {

// What run.on_nan says (train/nan_policy.h does it).
struct NanPolicy {
  enum class Kind { stop, skip, rollback };
  Kind kind = Kind::stop;
  int64_t limit = 0;
};

// "stop"; "skip:N": leave out up to N such steps in a row; "rollback:N": go on with the weights of the newest good checkpoint, up to N
// times in all. UsageError for anything else.
NanPolicy parse_nan_policy(const std::string& text);

}  // namespace glia
