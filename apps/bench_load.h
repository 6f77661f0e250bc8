#pragma once
#include <filesystem>

namespace glia {

// Reads all tensors of a file of weights into memory, over and over for `seconds`, once at least, and prints the time of reading and the most
// memory that the first reading took, over the tensors' bytes; as JSON to `json` where that is named. Throws as read_weights.
void time_loading(const std::filesystem::path& file, double seconds, const std::filesystem::path& json, bool quiet);

}  // namespace glia
