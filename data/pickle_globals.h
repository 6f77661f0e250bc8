#pragma once
// The names that a pickle of weights may hold, all of them; no part of the library's interface.
#include <optional>
#include <string_view>

#include "data/pickle.h"

namespace glia {

struct GlobalName {
  std::string_view module, name;
  PickleGlobal global;
  std::string_view dtype = {};  // of a storage: "F32"
};
std::optional<size_t> find_global(std::string_view module, std::string_view name);  // nothing for any other name
const GlobalName& pickle_global(size_t index);

}  // namespace glia
