// The kernel files of this folder, for the emulator.
#include "tests/gpu/conformance.cu"
#include "tests/gpu/demo.cu"
#include "tests/gpu/faults.cu"
#include "tests/gpu/races.cu"
