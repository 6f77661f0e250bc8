#include "data/pickle.h"

#include "data/pickle_machine.h"

namespace glia {

Pickle::Pickle(std::span<const std::byte> bytes, std::string name, size_t begin, const PickleLimits& limits)
    : name_(std::move(name)), bytes_(reinterpret_cast<const char*>(bytes.data()), bytes.size()) {
  PickleMachine(*this, bytes, begin, limits).run();
}

std::string Pickle::text(const PickleValue& value, size_t most) const {
  using Kind = PickleValue::Kind;
  if (value.kind != Kind::text && !value.is_bytes()) throw DataError("{}: something else where a text is wanted", name_);
  if (value.size > most) throw DataError("{}: a text of {} bytes, at most {} are read here", name_, value.size, most);
  if (value.kind == Kind::bytes) return utf8_of_latin1(value.view());
  if (count_code_points(value.view(), 0x10ffff) < 0) throw DataError("{}: a text that is no valid UTF-8", name_);
  return std::string(value.view());
}

}  // namespace glia
