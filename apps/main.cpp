// The `glia` program: one file per sub-command (docs/architecture.md).
#include "apps/cli.h"

int main(int argc, char** argv) {
  using namespace glia;
  return run_program(
      argc, argv,
      {demo_command(), synth_command(), check_data_command(), convert_command(), split_command(), show_command(), train_command(),
       predict_command(), evaluate_command(), inspect_command(), compare_command(), bench_command(), doctor_command()});
}
