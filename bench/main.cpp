// glia_bench: Google Benchmark over the kernels, or
//   glia_bench --conv-table [TEXT [ROUNDS [THREADS]]]   the convolutions against oneDNN's as a table; TEXT: only shapes whose name
//                                                       contains it ("": all)
#include <cstdlib>
#include <cstring>

#include "bench/conv_shapes.h"
#include "bench/run.h"
#include "tensor/parallel.h"

int main(int argc, char** argv) {
  if (argc >= 2 && std::strcmp(argv[1], "--conv-table") == 0) {
    if (argc > 4) glia::set_num_threads(std::atoi(argv[4]));
    return glia::bench::print_conv_table(argc > 2 ? argv[2] : "", argc > 3 ? std::atoi(argv[3]) : 5);
  }
  return glia::bench::run_benchmarks({argv + 1, argv + argc});
}
