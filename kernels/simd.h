#pragma once
// Which instruction set the CPU bodies use: the best of those that are compiled in and that this machine has, unless the environment
// variable GLIA_SIMD names a lower one. Results differ between them by rounding only.
#include <string>
#include <string_view>

namespace glia {

std::string simd_level();  // in use: avx512, avx2, scalar, ...

// No instructions beyond this level, from now on; "": all. Before any kernel has run. UsageError: an unknown level, or one that this
// machine lacks.
void use_simd(std::string_view level);

void use_simd_of_environment();  // GLIA_SIMD, where it is set

}  // namespace glia
