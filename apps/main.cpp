// The `glia` program: one file per sub-command (docs/architecture.md).
#include "apps/cli.h"

int main(int argc, char** argv) {
  using namespace glia;
  return run_program(argc, argv, {doctor_command(), inspect_command(), synth_command(), train_command()});
}
