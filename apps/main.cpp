// The `glia` program: one file per sub-command (docs/architecture.md).
#include "apps/cli.h"

#include <csignal>

int main(int argc, char** argv) {
  using namespace glia;
  std::signal(SIGXFSZ, SIG_IGN);  // a write beyond `ulimit -f` is an error that names the file, not the end of the process
  return run_program(argc, argv,
                     {demo_command(), synth_command(), check_data_command(), convert_command(), export_command(), split_command(),
                      show_command(), train_command(), predict_command(), size_model_command(), evaluate_command(),
                      inspect_command(), compare_command(), bench_command(), doctor_command()});
}
