#include "train/config.h"

#include "tensor/error.h"
#include "tests/fuzz/targets.h"

namespace glia::tests {

// A recipe; behind a zero byte each: settings KEY=VALUE. What is read and valid must be written and read back the same.
void fuzz_config(Bytes bytes) {
  std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  const auto part = [&text] {
    const size_t end = std::min(text.find('\0'), text.size());
    const std::string_view result = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    return result;
  };
  try {
    Config config;
    read_toml(config, part(), "fuzz.toml");
    while (!text.empty()) apply_setting(config, part());
    check_config(config);
    const std::string written = to_toml(config);
    Config again;
    read_toml(again, written, "written.toml");
    GLIA_CHECK(to_toml(again) == written, "a configuration does not read back as it was written:\n{}", written);
  } catch (const UsageError&) {
  }
}

}  // namespace glia::tests
