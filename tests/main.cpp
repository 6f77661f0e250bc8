#define DOCTEST_CONFIG_IMPLEMENT
#include <doctest/doctest.h>

#include "kernels/simd.h"

int main(int argc, char** argv) {
  glia::use_simd_of_environment();
  return doctest::Context(argc, argv).run();
}
