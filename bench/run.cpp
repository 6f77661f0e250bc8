#include "bench/run.h"

#include <benchmark/benchmark.h>

namespace glia::bench {

int run_benchmarks(const std::vector<std::string>& arguments) {
  std::vector<std::string> words{"glia_bench"};
  words.insert(words.end(), arguments.begin(), arguments.end());
  std::vector<char*> pointers;
  for (std::string& word : words) pointers.push_back(word.data());
  int count = static_cast<int>(pointers.size());
  benchmark::Initialize(&count, pointers.data());
  if (benchmark::ReportUnrecognizedArguments(count, pointers.data())) return 2;
  const bool some = benchmark::RunSpecifiedBenchmarks() > 0;
  benchmark::Shutdown();
  return some ? 0 : 2;
}

}  // namespace glia::bench
