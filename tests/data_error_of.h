#pragma once
// What reading something that is damaged says.
#include <string>
#include <string_view>

#include "tensor/error.h"

namespace glia::tests {

// The message of the DataError that f() throws; "" if it throws none.
std::string data_error_of(auto&& f) {
  try {
    f();
  } catch (const DataError& e) {
    return e.what();
  }
  return "";
}

// Whether the message says so.
inline bool has(const std::string& message, std::string_view part) { return message.find(part) != std::string::npos; }

}  // namespace glia::tests
