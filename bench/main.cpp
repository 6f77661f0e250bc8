// glia_bench: Google Benchmark over the kernels, or
//   glia_bench --conv-table [TEXT [ROUNDS [THREADS]]]   the convolutions against oneDNN's as a table; TEXT: only shapes whose name
//                                                       contains it ("": all)
//   glia_bench --conv-exact   [TEXT [ROUNDS [THREADS]]] the same table with run.precision = exact: direct sums alone
//   glia_bench --conv-choices [TEXT [ROUNDS [THREADS]]] Winograd's algorithm against the implicit GEMM, and which one is chosen
//   glia_bench --device cuda|cuda:N|emulated [TEXT]     the kernels of devices as tables; TEXT: only those whose name contains it
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "bench/conv_shapes.h"
#include "bench/device_table.h"
#include "bench/run.h"
#include "kernels/op.h"
#include "kernels/simd.h"
#include "tensor/error.h"
#include "tensor/parallel.h"

int main(int argc, char** argv) {
  glia::use_simd_of_environment();
  using Table = int(const std::string& only, int rounds);
  constexpr auto print_exact = [](const std::string& only, int rounds) {
    const glia::PrecisionScope exact(glia::Precision::exact);
    return glia::bench::print_conv_table(only, rounds);
  };
  const std::pair<const char*, Table*> tables[] = {{"--conv-table", glia::bench::print_conv_table},
                                                   {"--conv-exact", print_exact},
                                                   {"--conv-choices", glia::bench::print_conv_choices}};
  for (const auto& [option, print] : tables) {
    if (argc < 2 || std::strcmp(argv[1], option) != 0) continue;
    if (argc > 4) glia::set_num_threads(std::atoi(argv[4]));
    return print(argc > 2 ? argv[2] : "", argc > 3 ? std::atoi(argv[3]) : 5);
  }
  if (argc >= 3 && std::strcmp(argv[1], "--device") == 0) {
    try {
      return glia::bench::print_device_tables(glia::parse_device(argv[2]), argc > 3 ? argv[3] : "");
    } catch (const glia::Error& e) {
      std::fprintf(stderr, "glia_bench: %s\n", e.what());
      return static_cast<int>(e.code());
    }
  }
  return glia::bench::run_benchmarks({argv + 1, argv + argc});
}
