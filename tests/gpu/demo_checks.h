#pragma once
// Each kernel of demo.h against plain loops, on either side.
#include <string>
#include <vector>

#include "tests/gpu/demo.h"

namespace glia::tests {

struct DemoCheck {
  const char* name;
  std::string (*run)(const gpu::Runtime& runtime, const Demo& demo);  // what is wrong with the result, or nothing
};
const std::vector<DemoCheck>& demo_checks();

}  // namespace glia::tests
