// Matrix products in tf32 and bf16 on devices: within what rounding the factors costs, and the same bits in every order of
// threads.
#include <doctest/doctest.h>

#include "gpu/emulator_config.h"
#include "kernels/matmul.h"
#include "tests/op_run.h"

namespace glia::tests {
namespace {

std::vector<OpCase> product_cases() {
  std::vector<OpCase> cases;
  cases.push_back(op_case("linear", Linear{}, {normal({70, 45}), normal({38, 45}), normal({38})}));
  cases.push_back(op_case("cut along the inner index", Linear{}, {normal({20, 600}), normal({36, 600}), normal({36})}));
  cases.push_back(op_case("transposed, in fours", Matmul{.transpose_a = true}, {normal({50, 72}), normal({50, 80})}));
  cases.push_back(
      op_case("both transposed", Matmul{.transpose_a = true, .transpose_b = true}, {normal({33, 65}), normal({17, 33})}));
  cases.push_back(op_case("along the inner index, in fours", Linear{}, {normal({72, 48}), normal({40, 48}), absent()}));
  cases.push_back(op_case("many large products", Matmul{}, {normal({16, 250, 20}), normal({16, 20, 230})}));
  cases.push_back(op_case("many large products", Matmul{.transpose_b = true}, {normal({16, 252, 8}), normal({16, 230, 8})}));
  cases.push_back(op_case("many large products", Matmul{.transpose_a = true}, {normal({16, 8, 252}), normal({16, 8, 230})}));
  return cases;
}

struct PrecisionOf {
  explicit PrecisionOf(Precision p) : before(precision()) { set_precision(p); }
  ~PrecisionOf() { set_precision(before); }
  Precision before;
};

}  // namespace

TEST_SUITE_BEGIN("device");

TEST_CASE("products in tf32 and bf16 differ from the double reference by the rounding of their factors") {
  const Device device{DeviceKind::emulated};
  for (const OpCase& c : product_cases()) {
    const auto inputs = make_inputs(c);
    const Run want = run_case(c, cast_all(inputs, DType::float64), KernelChoice::reference);
    const auto in = cast_all(inputs, DType::float32);
    for (const auto& [kind, name, rounding] :
         {std::tuple(Precision::tf32, "tf32", 0x1p-11), std::tuple(Precision::bf16, "bf16", 0x1p-9)}) {
      const PrecisionOf scope(kind);
      const Run got = run_case(c, in, KernelChoice::hand, device);
      check_run(c, got, want, name, 12 * rounding / c.tolerance);
      CHECK(worst_error(got.outputs[0], want.outputs[0]) > rounding / 64);  // that they were rounded at all
      gpu::emulator_config().order = gpu::Order::random;
      check_same_bits(c, run_case(c, in, KernelChoice::hand, device), got, name);
      gpu::emulator_config().order = gpu::Order::forward;
    }
  }
}

TEST_SUITE_END();

}  // namespace glia::tests
