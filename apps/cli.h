#pragma once
// The command line: sub-commands declare their arguments here; CLI11 stays inside cli.cpp.
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "tensor/device.h"

namespace glia {

// Declares arguments of one sub-command. The pointers must outlive the parse.
class Arguments {
 public:
  virtual ~Arguments() = default;
  virtual void positional(const char* name, std::string* value, const char* help, bool required = true) = 0;
  virtual void positional(const char* name, std::optional<std::string>* value, const char* help) = 0;
  virtual void positional(const char* name, std::vector<std::string>* values, const char* help, bool required = true) = 0;
  virtual void option(const char* name, std::string* value, const char* help, bool required = false) = 0;
  virtual void option(const char* name, std::optional<std::string>* value, const char* help) = 0;
  virtual void option(const char* name, int64_t* value, const char* help) = 0;
  virtual void option(const char* name, double* value, const char* help) = 0;
  virtual void option(const char* name, std::vector<std::string>* values, const char* help) = 0;    // takes one or more
  virtual void repeated(const char* name, std::vector<std::string>* values, const char* help) = 0;  // one each time
  virtual void flag(const char* name, bool* value, const char* help) = 0;
};

struct Command {
  std::string name;
  std::string summary;
  std::string example;  // shown before the options
  std::function<void(Arguments&)> declare;
  std::function<int()> run;  // returns the exit code; errors are exceptions
};

// Options that every command which computes has.
struct CommonOptions {
  std::string device = "auto";
  std::string kernels = "auto";
  int64_t threads = 0;  // 0: all cores
  std::string mem_limit;
  std::vector<std::string> limits;  // NAME=NUMBER each, see data/limits.h
  bool quiet = false;
  bool sync = false;

  void declare(Arguments& arguments);
  // Sets threads, kernels and memory limit. Throws DeviceError where a device that was named cannot be used.
  void apply() const;
  // The same for commands that run a network: chooses the device, sees that it works, and applies kernels and limit to it.
  Device apply_to_device() const;

 private:
  void apply_to(Device chosen) const;
};

// The option --file-limit, for set_file_limit.
void declare_limits(Arguments& arguments, std::vector<std::string>* limits);

// Whether this program holds bodies of a vendor's library for the device: oneDNN, cuDNN. The convolution stands for all: a library that
// has any has that.
bool has_vendor_kernels(DeviceKind device);

// Parses, runs the command, reports errors. Returns the exit code of the process.
int run_program(int argc, char** argv, const std::vector<Command>& commands);

// "4G", "500M", "1048576" to bytes. Throws UsageError.
size_t parse_bytes(const std::string& text);
// "520x704" to {height, width}, "256" to a square. Throws UsageError.
std::pair<int64_t, int64_t> parse_size(const std::string& text, const char* option);

// One per file apps/NAME.cpp.
Command bench_command();
Command check_data_command();
Command compare_command();
Command convert_command();
Command demo_command();
Command doctor_command();
Command evaluate_command();
Command export_command();
Command inspect_command();
Command predict_command();
Command show_command();
Command size_model_command();
Command split_command();
Command synth_command();
Command train_command();

}  // namespace glia
