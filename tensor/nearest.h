#pragma once
// "Did you mean ...?": the known name nearest to a mistyped one.
#include <string>
#include <vector>

namespace glia {

// The name with the least edit distance to `got`, or "" when none is near (within 2, or a third of the length).
std::string nearest_name(const std::string& got, const std::vector<std::string>& known);

}  // namespace glia
