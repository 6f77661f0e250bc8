#pragma once
// The micro-benchmarks as a function: glia_bench and `glia bench` call it.
#include <string>
#include <vector>

namespace glia::bench {

// Google Benchmark over the registered cases, with its own arguments ("--benchmark_filter=conv2d"). Returns the exit code: 2 where none matches.
int run_benchmarks(const std::vector<std::string>& arguments);

}  // namespace glia::bench
