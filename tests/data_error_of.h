#pragma once
// What reading something that is damaged says.
#include <string>

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

}  // namespace glia::tests
