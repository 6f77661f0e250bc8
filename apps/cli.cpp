#include "apps/cli.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>

#include <algorithm>
#include <cstdio>
#include <map>
#include <memory>
#include <new>

#include "data/limits.h"
#include "kernels/conv.h"
#include "kernels/simd.h"
#include "tensor/error.h"
#include "tensor/memory.h"
#include "tensor/nearest.h"
#include "tensor/parallel.h"
#include "tensor/stream.h"
#include "train/config_keys.h"

namespace glia {
namespace {

class CliArguments final : public Arguments {
 public:
  explicit CliArguments(CLI::App& app) : app_(app) {}

  void positional(const char* name, std::string* value, const char* help, bool required) override {
    app_.add_option(name, *value, help)->required(required);
  }
  void positional(const char* name, std::optional<std::string>* value, const char* help) override {
    app_.add_option(name, *value, help);
  }
  void positional(const char* name, std::vector<std::string>* values, const char* help, bool required) override {
    app_.add_option(name, *values, help)->required(required);
  }
  void option(const char* name, std::string* value, const char* help, bool required) override {
    app_.add_option(name, *value, help)->required(required)->capture_default_str()->take_last();
  }
  void option(const char* name, std::optional<std::string>* value, const char* help) override {
    app_.add_option(name, *value, help)->take_last();
  }
  void option(const char* name, int64_t* value, const char* help) override {
    app_.add_option(name, *value, help)->capture_default_str()->take_last();
  }
  void option(const char* name, double* value, const char* help) override {
    app_.add_option(name, *value, help)->capture_default_str()->take_last();
  }
  void option(const char* name, std::vector<std::string>* values, const char* help) override {
    app_.add_option(name, *values, help);
  }
  void repeated(const char* name, std::vector<std::string>* values, const char* help) override {
    app_.add_option(name, *values, help)->expected(1)->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  }
  void flag(const char* name, bool* value, const char* help) override { app_.add_flag(name, *value, help); }

 private:
  CLI::App& app_;
};

// CLI11's help with an example between the usage line and the options.
class HelpFormatter final : public CLI::Formatter {
 public:
  void set_example(const std::string& command, const std::string& example) { examples_[command] = example; }
  std::string make_usage(const CLI::App* app, std::string name) const override {
    const auto found = examples_.find(app->get_name());
    const std::string example = found == examples_.end() ? "" : "Example:\n  " + found->second + "\n";
    return CLI::Formatter::make_usage(app, name) + example;
  }

 private:
  std::map<std::string, std::string> examples_;
};

int usage_error(const std::string& message) {
  fmt::print(stderr, "glia: {}\n", message);
  return static_cast<int>(ExitCode::usage);
}

// Names an unknown command's or option's nearest relative.
std::string with_suggestion(const std::string& message, const std::string& got, const std::vector<std::string>& known) {
  const std::string nearest = nearest_name(got, known);
  return nearest.empty() ? message : message + "; did you mean '" + nearest + "'?";
}

// "--diameter 30" and "--batch_size 8" are settings of the configuration: how they are given. Empty where it has none of the name.
std::string as_setting(const std::string& argument) {
  std::string name = argument.substr(0, argument.find('='));
  if (!name.starts_with("--")) return {};
  name.replace(0, 2, ".");
  std::replace(name.begin(), name.end(), '-', '_');
  std::string ways;
  for (const ConfigKey& key : config_keys())
    if (key.name.ends_with(name)) ways += (ways.empty() ? "--set " : ", or --set ") + key.name + "=VALUE";
  return ways;
}

int run_command(const Command& command) {
  try {
    return command.run();
  } catch (const Error& e) {
    fmt::print(stderr, "glia {}: {}\n", command.name, e.what());
    return static_cast<int>(e.code());
  } catch (const std::bad_alloc&) {
    fmt::print(stderr, "glia {}: out of memory\n", command.name);
    return static_cast<int>(ExitCode::out_of_memory);
  } catch (const std::exception& e) {
    fmt::print(stderr, "glia {}: internal error: {}\n", command.name, e.what());
    return static_cast<int>(ExitCode::internal);
  }
}

// Throws where the device has no such bodies.
KernelChoice parse_kernels(const std::string& name, Device device) {
  if (name == "auto") return KernelChoice::automatic;
  if (name == "hand") return KernelChoice::hand;
  if (name == "reference") {
    if (device.kind != DeviceKind::cpu)
      throw DeviceError(
          "--kernels reference: the reference kernels are plain loops for the CPU, {} has none; use --device cpu, or "
          "--kernels auto",
          to_string(device));
    return KernelChoice::reference;
  }
  if (name != "vendor") throw UsageError("--kernels {}: want auto, hand, vendor or reference", name);
  if (has_vendor_kernels(device.kind)) return KernelChoice::vendor;
  if (device.kind == DeviceKind::emulated)
    throw DeviceError("--kernels vendor: the emulated device runs this program's own kernels only; use --kernels auto");
  throw DeviceError("--kernels vendor: {} is not built into this program; use --kernels auto",
                    device.kind == DeviceKind::cpu ? "oneDNN" : "cuDNN");
}

std::vector<std::string> option_names(const CLI::App& app) {
  std::vector<std::string> names;
  for (const CLI::Option* option : app.get_options())
    for (const std::string& name : option->get_lnames()) names.push_back("--" + name);
  return names;
}

}  // namespace

bool has_vendor_kernels(DeviceKind device) {
  const auto there = [](Conv2d::Forward* body) { return body != nullptr; };
  return there(device == DeviceKind::cpu    ? Conv2d::forward.onednn
               : device == DeviceKind::cuda ? Conv2d::forward.vendor
                                            : nullptr);
}

void declare_limits(Arguments& a, std::vector<std::string>* limits) {
  a.repeated("--file-limit", limits,
             "NAME=NUMBER: what a file may ask for at most, such as pixels=400M; --file-limit ? lists the names");
}

void CommonOptions::declare(Arguments& a) {
  a.option("--device", &device, "auto, cpu, cuda, cuda:N or emulated");
  a.option("--kernels", &kernels, "auto, hand, vendor or reference");
  a.option("--threads", &threads, "worker threads; 0: all cores");
  a.option("--mem-limit", &mem_limit, "most memory that tensors may take, such as 4G");
  declare_limits(a, &limits);
  a.flag("--quiet", &quiet, "errors and warnings only");
  a.flag("--sync", &sync, "wait for every kernel, so that a failure on a GPU names its op");
}

void CommonOptions::apply() const {
  if (device != "auto") parse_device(device);
  apply_to(Device{});
}

Device CommonOptions::apply_to_device() const {
  const Device chosen = parse_device(device);
  apply_to(chosen);
  if (chosen.kind != DeviceKind::cpu) runtime_of(chosen);  // the first use says what is wrong, before any data is read
  return chosen;
}

void CommonOptions::apply_to(Device chosen) const {
  if (threads < 0 || threads > 1024) throw UsageError("--threads {}: want 0 (all cores) to 1024", threads);
  if (threads > 0) set_num_threads(static_cast<int>(threads));
  if (!mem_limit.empty()) set_memory_limit(parse_bytes(mem_limit), chosen);
  for (const std::string& limit : limits) set_file_limit(limit);
  set_kernel_choice(parse_kernels(kernels, chosen));
  set_synchronous_launches(sync);
}

size_t parse_bytes(const std::string& text) {
  size_t used = 0;
  double value = 0;
  try {
    value = std::stod(text, &used);
  } catch (const std::exception&) {
    used = 0;
  }
  const std::string unit = text.substr(used);
  const double factor = unit.empty() || unit == "B" ? 1 : unit == "K" ? 1e3 : unit == "M" ? 1e6 : unit == "G" ? 1e9 : 0;
  if (used == 0 || factor == 0 || !(value > 0) || value * factor > 1e18)
    throw UsageError("memory size '{}': want a number with K, M or G, such as 4G", text);
  return static_cast<size_t>(value * factor);
}

std::pair<int64_t, int64_t> parse_size(const std::string& text, const char* option) {
  const auto number = [&](const std::string& part) -> int64_t {
    const bool digits =
        !part.empty() && part.size() <= 6 && std::all_of(part.begin(), part.end(), [](char c) { return c >= '0' && c <= '9'; });
    if (!digits || std::stoll(part) < 1) throw UsageError("{} '{}': want HxW such as 520x704, or one number", option, text);
    return std::stoll(part);
  };
  const size_t x = text.find('x');
  if (x == std::string::npos) return {number(text), number(text)};
  return {number(text.substr(0, x)), number(text.substr(x + 1))};
}

int run_program(int argc, char** argv, const std::vector<Command>& commands) {
  CLI::App app("glia: cell instance segmentation, from images and run-length masks to trained models and predictions", "glia");
  app.set_version_flag("--version", "glia 0.1.0");
  app.require_subcommand(0, 1);
  app.footer(
      "glia COMMAND --help shows an example and the options of a command.\nExit codes: 0 ok, 1 internal error, 2 usage or "
      "config, 3 data, 4 I/O, 5 diverged, 6 out of memory, 7 device, 130 interrupted.");
  const auto formatter = std::make_shared<HelpFormatter>();
  formatter->column_width(32);
  app.formatter(formatter);
  std::vector<CLI::App*> parsers;
  std::vector<std::string> names;
  for (const Command& command : commands) {
    formatter->set_example(command.name, command.example);
    CLI::App* parser = app.add_subcommand(command.name, command.summary);
    CliArguments arguments(*parser);
    command.declare(arguments);
    parsers.push_back(parser);
    names.push_back(command.name);
  }
  if (argc > 1 && argv[1][0] != '-' && std::find(names.begin(), names.end(), argv[1]) == names.end())
    return usage_error(with_suggestion(fmt::format("unknown command '{}'", argv[1]), argv[1], names));
  try {
    use_simd_of_environment();
  } catch (const UsageError& e) {
    return usage_error(e.what());
  }
  try {
    app.parse(argc, argv);
  } catch (const CLI::Success& e) {
    return app.exit(e);
  } catch (const CLI::ExtrasError& e) {
    for (CLI::App* parser : parsers) {
      const std::vector<std::string> extras = parser->parsed() ? parser->remaining() : std::vector<std::string>();
      if (extras.empty()) continue;
      const std::string message = fmt::format("{}: unexpected argument '{}'", parser->get_name(), extras[0]);
      const std::string ways = parser->get_option_no_throw("--set") ? as_setting(extras[0]) : "";
      return usage_error(ways.empty() ? with_suggestion(message, extras[0], option_names(*parser))
                                      : message + "; it is a setting: " + ways);
    }
    return usage_error(e.what());
  } catch (const CLI::ParseError& e) {
    return usage_error(std::string(e.what()) + " (see --help)");
  }
  for (size_t i = 0; i < commands.size(); ++i)
    if (parsers[i]->parsed()) return run_command(commands[i]);
  fmt::print("{}", app.help());
  return 0;
}

}  // namespace glia
