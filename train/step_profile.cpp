#include "train/step_profile.h"

#include <fmt/format.h>

#include <algorithm>

#include "tensor/memory.h"
#include "tensor/stream.h"

namespace glia {
namespace {

std::string layer_of(const std::string& parameter) {
  const size_t dot = parameter.rfind('.');
  return dot == std::string::npos ? parameter : parameter.substr(0, dot);
}

double bytes_of(const TensorSpec& spec) { return double(spec.shape.size()) * double(size_of(spec.dtype)); }

}  // namespace

double forward_flops(std::string_view op, std::span<const Tensor> inputs, const Tensor& output) {
  if (op == "conv2d" || op == "upsample_conv2d") return 2 * double(output.size()) * double(inputs[1].size() / inputs[1].dim(0));
  if (op == "concat_conv2d") return 2 * double(output.size()) * double(inputs[2].size() / inputs[2].dim(0));
  if (op == "conv_transpose2d") return 2 * double(inputs[0].size()) * double(inputs[1].size() / inputs[1].dim(0));
  if (op == "linear") return 2 * double(output.size()) * double(inputs[1].dim(1));
  return 0;
}

StepProfile::StepProfile(Module& module, Device device) : device_(device) {
  for (const NamedTensor& p : module.parameters()) {
    names_[p.tensor->raw()] = layer_of(p.name);
    if (p.tensor->grad_record()) record_names_[p.tensor->grad_record().get()] = layer_of(p.name);
  }
}

void StepProfile::begin_step() {
  ++steps_;
  synchronize(device_);
  reset_peak_memory(device_);
  last_ = std::chrono::steady_clock::now();
}

StepProfile::Row& StepProfile::row_of(const std::string& layer, std::string_view op, const Shape& input) {
  // Ops without parameters are told apart by their input's shape.
  const std::string key = layer.empty() ? fmt::format("{} {}", op, input) : layer + " " + std::string(op);
  const auto [at, inserted] = index_.emplace(key, rows_.size());
  if (inserted) rows_.push_back({.layer = layer, .op = std::string(op), .shape = input});
  return rows_[at->second];
}

double StepProfile::charge(Row& row) {
  synchronize(device_);
  const auto now = std::chrono::steady_clock::now();
  const double seconds = std::chrono::duration<double>(now - last_).count();
  row.live_bytes = std::max(row.live_bytes, memory_stats(device_).peak_bytes);
  reset_peak_memory(device_);
  last_ = std::chrono::steady_clock::now();
  return seconds;
}

void StepProfile::after_forward(const char* op, std::span<const Tensor> inputs, const Tensor& output) {
  std::string layer;
  double bytes = double(output.bytes());
  for (const Tensor& t : inputs) {
    if (!t) continue;
    bytes += double(t.bytes());
    const auto name = names_.find(t.raw());
    if (layer.empty() && name != names_.end()) layer = name->second;
  }
  Row& row = row_of(layer, op, inputs[0].shape());
  row.forward += charge(row);
  row.shape = output.shape();
  row.megabytes += bytes / 1e6;
  ++row.calls;
  const bool gradients = grad_enabled();
  const size_t filter = std::string_view(op) == "concat_conv2d" ? 2 : 1;
  row.gflop += forward_flops(op, inputs, output) *
               (1 + (gradients && wants_grad(inputs[0])) + (gradients && inputs.size() > 1 && wants_grad(inputs[filter]))) / 1e9;
}

void StepProfile::after_backward(const Node& node, std::span<const Tensor> gradients) {
  std::string layer;
  double bytes = 0;
  for (const TensorSpec& spec : node.specs)
    if (spec.shape.rank() > 0) bytes += bytes_of(spec);  // an absent input looks like a scalar
  for (const Tensor& g : gradients) bytes += g ? double(g.bytes()) : 0;
  for (const auto& record : node.inputs) {
    const auto name = record_names_.find(record.get());
    if (layer.empty() && name != record_names_.end()) layer = name->second;
  }
  std::string_view op = node.name;
  if (op.ends_with("_backward")) op.remove_suffix(9);
  Row& row = row_of(layer, op, node.specs.empty() ? Shape{} : node.specs[0].shape);
  row.backward += charge(row);
  row.megabytes += bytes / 1e6;
}

void StepProfile::end_step(const std::string& rest) {
  Row& row = row_of(rest, "", {});
  row.forward += charge(row);
  ++row.calls;
}

std::vector<StepProfile::Row> StepProfile::rows() const {
  std::vector<Row> rows = rows_;
  const double steps = double(std::max<int64_t>(1, steps_));
  for (Row& r : rows) {
    r.calls = int64_t(double(r.calls) / steps + 0.5);
    r.gflop /= steps, r.megabytes /= steps, r.forward /= steps, r.backward /= steps;
  }
  return rows;
}

std::string profile_text(const std::vector<StepProfile::Row>& rows, double peak_gflops) {
  double total = 0, gflop = 0;
  const StepProfile::Row* highest = nullptr;
  std::map<std::string, double> by_op;
  for (const auto& r : rows) {
    total += r.forward + r.backward, gflop += r.gflop;
    if (!highest || r.live_bytes > highest->live_bytes) highest = &r;
    by_op[r.op.empty() ? r.layer : r.op] += r.forward + r.backward;
  }
  if (!highest || total <= 0) return "";
  const auto of_peak = [&](double work, double seconds) {
    return work > 0 && peak_gflops > 0 ? fmt::format("{:.0f}", 100 * work / seconds / peak_gflops) : std::string("-");
  };
  std::string text = fmt::format("{:<44} {:<20} {:>5} {:>20} {:>9} {:>8} {:>9} {:>9} {:>6} {:>6} {:>8}\n", "layer", "op", "calls",
                                 "output", "GFLOP", "MB", "fwd ms", "bwd ms", "time %", "peak %", "live MB");
  // A detector has dozens of ops on boxes that take no time: one line for them.
  int64_t small = 0;
  double small_seconds = 0;
  for (const auto& r : rows) {
    const double seconds = r.forward + r.backward;
    if (r.layer.empty() && seconds < 0.0005 * total) {
      ++small, small_seconds += seconds;
      continue;
    }
    text += fmt::format("{:<44} {:<20} {:>5} {:>20} {:>9.3f} {:>8.1f} {:>9.2f} {:>9.2f} {:>6.1f} {:>6} {:>8.0f}\n", r.layer, r.op,
                        r.calls, fmt::format("{}", r.shape), r.gflop, r.megabytes, 1e3 * r.forward, 1e3 * r.backward,
                        100 * seconds / total, of_peak(r.gflop, seconds), double(r.live_bytes) / 1e6);
  }
  if (small > 0)
    text +=
        fmt::format("{} more kinds and shapes of ops, each below 0.05 % of the time: {:.2f} ms\n", small, 1e3 * small_seconds);
  std::vector<std::pair<double, std::string>> kinds;
  for (const auto& [op, seconds] : by_op) kinds.emplace_back(seconds, op);
  std::sort(kinds.rbegin(), kinds.rend());
  text += fmt::format(
      "\na step: {:.1f} ms, {:.1f} GFLOP, {} % of the peak of {:.0f} GFLOP/s (operations as direct sums have "
      "them: Winograd's algorithm has fewer)\nby kind:",
      1e3 * total, gflop, of_peak(gflop, total), peak_gflops);
  for (size_t i = 0; i < std::min<size_t>(kinds.size(), 8); ++i)
    text += fmt::format("{} {} {:.1f} %", i ? "," : "", kinds[i].second, 100 * kinds[i].first / total);
  text += fmt::format("\nmost live memory: {:.1f} MB, in {}{}{}\n", double(highest->live_bytes) / 1e6, highest->op,
                      highest->op.empty() || highest->layer.empty() ? "" : " of ", highest->layer);
  return text;
}

}  // namespace glia
