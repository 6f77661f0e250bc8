#pragma once
// StepProfile: what each layer of a training step costs, in operations, bytes, time and memory. It watches the ops that one thread runs
// (autograd's OpObserver), so it knows every model.
//
//   Optimizer optimizer(...);            // first: it moves the parameters, by whose places layers are known
//   StepProfile profile(model, device);
//   profile.begin_step();
//   ...forward, backward...
//   optimizer.step(lr);
//   profile.end_step("optimizer");
#include <chrono>
#include <map>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "autograd/tape.h"
#include "nn/module.h"

namespace glia {

// 2 for each multiply-add of a convolution's or matrix product's forward pass; 0 of all other ops.
double forward_flops(std::string_view op, std::span<const Tensor> inputs, const Tensor& output);

// Multiply-adds of convolutions and matrix products, times 2: forward, and the gradients that are wanted.
class FlopCounter : public OpObserver {
 public:
  void after_forward(const char* op, std::span<const Tensor> inputs, const Tensor& y) override {
    total_ += forward_flops(op, inputs, y) *
              (1 + (grad_enabled() ? wants_grad(inputs[0]) + (inputs.size() > 1 && wants_grad(inputs[1])) : 0));
  }
  void after_backward(const Node&, std::span<const Tensor>) override {}
  double total() const { return total_; }

 private:
  double total_ = 0;
};

class StepProfile : public OpObserver {
 public:
  struct Row {
    std::string layer;  // the parameters' common name; "" of an op without parameters
    std::string op;
    Shape shape;           // of what it computed last, of the forward pass
    int64_t calls = 0;     // a step
    double gflop = 0;      // a step, gradients included
    double megabytes = 0;  // a step: tensors that were read or written, each once an op, whatever a cache saves
    double forward = 0;    // seconds a step, with the host's work since the op before
    double backward = 0;
    size_t live_bytes = 0;  // most of all tensors while it ran
  };

  StepProfile(Module& module, Device device);

  void begin_step();
  void end_step(const std::string& rest);  // the time since the last op goes to a row of this name
  // In the order of the first step's forward pass; then what only the backward pass has. Averages over the steps.
  std::vector<Row> rows() const;

  void after_forward(const char* op, std::span<const Tensor> inputs, const Tensor& output) override;
  void after_backward(const Node& node, std::span<const Tensor> gradients) override;

 private:
  Row& row_of(const std::string& layer, std::string_view op, const Shape& input);
  double charge(Row& row);  // the seconds since the last event

  Device device_;
  std::map<const std::byte*, std::string> names_;          // of a parameter's data
  std::map<const GradRecord*, std::string> record_names_;  // of a parameter's gradient
  std::map<std::string, size_t> index_;
  std::vector<Row> rows_;
  int64_t steps_ = 0;
  std::chrono::steady_clock::time_point last_;
};

// A table of the rows, those that take next to no time in one line, the costliest kinds of ops and where memory is at its highest.
// `peak_gflops`: of all threads; 0: unknown.
std::string profile_text(const std::vector<StepProfile::Row>& rows, double peak_gflops);

}  // namespace glia
