#pragma once
// Runs a case of the table (tests/op_cases.h) by one implementation, and compares two runs.
#include "kernels/op.h"
#include "tests/op_cases.h"
#include "tests/same_bits.h"

namespace glia::tests {

// All on the host.
struct Run {
  std::vector<Tensor> outputs;
  std::vector<Tensor> gradients;  // per input, absent where none is wanted
};

// Floating inputs as this type; others as they are.
std::vector<Tensor> cast_all(const std::vector<Tensor>& inputs, DType dtype);

// The cotangent fed to backward: random, the same numbers for every type. On the host.
Tensor cotangent(const Tensor& y);

// The case on inputs moved to `device`.
Run run_case(const OpCase& c, const std::vector<Tensor>& inputs, KernelChoice choice, Device device = {});

// The worst |got - want| over the larger of |want| and the rms of want. NaN counts as infinitely wrong unless both are.
double worst_error(const Tensor& got, const Tensor& want);

// Values and gradients within the case's tolerance, times `slack`.
void check_run(const OpCase& c, const Run& got, const Run& want, const char* variant, double slack = 1);
void check_same_bits(const OpCase& c, const Run& got, const Run& want, const char* variant);

// New blocks are framed by guard bytes while it lives.
struct Guarded {
  Guarded() { set_memory_guards(true); }
  ~Guarded() { set_memory_guards(false); }
};

}  // namespace glia::tests
